//! Where the adapter is already, and how to take it off.

use crate::api::{AdapterId, Publication, PublishReview, Publisher};
use crate::components::Confirm;
use crate::format;
use crate::forms::{publish_page, sign_in_href};
use leptos::prelude::*;

#[component]
pub fn PublishedList(review: PublishReview) -> impl IntoView {
    if review.published.is_empty() {
        return ().into_any();
    }
    let (adapter, publisher, hub) = (review.adapter.id, review.publisher, review.hub);
    let rows = review.published.into_iter().enumerate().map(|(index, publication)| {
        let Publication { repo, url, commit, private, published_at } = publication;
        let (adapter, publisher, hub) = (adapter.clone(), publisher.clone(), hub.clone());
        let seen = if private { "private" } else { "public" };
        let facts = format!("{seen} · {} · commit {}", format::date(published_at), commit.chars().take(8).collect::<String>());
        view! {
            <li>
                <p>
                    <a href=url>{repo.clone()}</a>
                    " "
                    <small>{facts}</small>
                </p>
                <Confirm label="Unpublish" warning=format!("{repo} is deleted on the Hub, with every version of it. The adapter stays here.")>
                    <form action="/api/unpublish_adapter" method="post" class="form">
                        <input type="hidden" name="adapter" value=adapter.0.clone()/>
                        <input type="hidden" name="repo" value=repo.clone()/>
                        <TokenField id=format!("unpublish-token-{index}") publisher adapter hub/>
                        <button type="submit" class="button danger">"Delete it on the Hub"</button>
                    </form>
                </Confirm>
            </li>
        }
    });
    view! {
        <section aria-labelledby="published-title">
            <h2 id="published-title">"Published"</h2>
            <ul class="published-list">{rows.collect_view()}</ul>
        </section>
    }
    .into_any()
}

/// With whose token: asked for where there is none, and used once; or with what to do to have a permission of one's own.
#[component]
pub fn TokenField(#[prop(into)] id: String, publisher: Publisher, adapter: AdapterId, hub: String) -> impl IntoView {
    match publisher {
        Publisher::Typed => view! { <Typed id hub/> }.into_any(),
        Publisher::Machine => view! { <p class="hint">"The token that is configured on this machine is used."</p> }.into_any(),
        Publisher::SignedIn(username) => view! { <p class="hint">{format!("With your own permission, as {username}.")}</p> }.into_any(),
        Publisher::SignIn(why) => view! {
            <p class="note">
                {why}
                " "
                <a href=sign_in_href(&publish_page(&adapter), true) rel="external">
                    "Sign in"
                </a>
            </p>
        }
        .into_any(),
    }
}

#[component]
fn Typed(id: String, hub: String) -> impl IntoView {
    let hint = format!("{id}-hint");
    view! {
        <div class="field">
            <label for=id.clone()>"Token"</label>
            <input type="password" id=id name="token" required autocomplete="off" spellcheck="false" aria-describedby=hint.clone()/>
            <p class="hint" id=hint>
                "With write access, from "
                <a href=format!("{hub}/settings/tokens")>"your settings on the Hub"</a>
                ". It is used for this once and kept nowhere."
            </p>
        </div>
    }
    .into_any()
}
