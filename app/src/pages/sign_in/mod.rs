//! Sign in: why, how, and what went wrong. In a frame, whose cookies are kept apart, by way of a tab and a one-time code.

mod code;
mod ways;

use crate::api::{Account, Member};
use crate::calls::account::get_sign_in_code;
use crate::components::{ErrorNote, Missing, PageTitle, awaited, use_account, use_address_error};
use crate::forms::landing;
use code::HandedOver;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use ways::Ways;

#[component]
pub fn SignInPage() -> impl IntoView {
    let (query, account) = (use_query_map(), use_account());
    let asked = move |name: &str| query.with_untracked(|query| query.get(name)).unwrap_or_default();
    let (then, from_frame) = (landing(asked("then")), !asked("code").is_empty());
    let code = Resource::new(move || from_frame, |wanted| async move { if wanted { get_sign_in_code().await.ok() } else { None } });
    let body = awaited(move || {
        let then = then.clone();
        async move {
            match (account.await, code.await) {
                (Ok(Account::Local), _) => view! { <p class="lead">"Nobody needs to sign in here: the studio is yours."</p> }.into_any(),
                (Ok(Account::Member(_)), Some(code)) => view! { <HandedOver code then/> }.into_any(),
                (Ok(Account::Member(member)), None) => view! { <Signed member then/> }.into_any(),
                (Ok(Account::Stranger { framed }), _) => view! { <Ways framed again=false then/> }.into_any(),
                (Err(error), _) => view! { <Missing title="It is not known who you are" error>""</Missing> }.into_any(),
            }
        }
    });
    view! {
        <PageTitle title="Sign in" lead="With Hugging Face. What you make is kept as yours, and adapters go to the Hub under your name."/>
        <ErrorNote message=use_address_error()/>
        <div class="sign-in">{body}</div>
    }
    .into_any()
}

#[component]
fn Signed(member: Member, then: String) -> impl IntoView {
    let Member { username, name, missing, framed, .. } = member;
    let missing = (!missing.is_empty()).then(|| {
        let list = missing.join(", ");
        view! { <p class="note">{format!("You did not allow everything that Atelier asked for: {list} is missing. Sign in again to change that.")}</p> }
    });
    view! {
        <p class="lead">
            "You are signed in as "
            <strong>{name}</strong>
            {format!(" ({username}).")}
        </p>
        {missing}
        <Ways framed again=true then/>
    }
    .into_any()
}
