//! What the publisher decides: name, visibility, words, licence, rights, pictures, and with whose token.

use super::published::TokenField;
use crate::api::{
    LicenceChoice, PictureChoice, PublishRequest, PublishReview,
    limits::{MAX_CARD_PICTURES, MAX_NAME_CHARS, MAX_RIGHTS_CHARS},
};
use crate::components::ErrorNote;
use leptos::prelude::*;

#[component]
pub fn PublishFields(review: PublishReview, refused: Signal<Option<String>>) -> impl IntoView {
    let PublishReview { adapter, request, choices, licences, publisher, hub, state, .. } = review;
    let busy = state.is_some_and(|state| state.active);
    let PublishRequest { repo, private, replace, title, trigger, base_model, licence, rights, pictures } = request;
    view! {
        <form id="publish-form" class="form" action="/api/start_publishing" method="post" aria-label="Publication">
            <input type="hidden" name="adapter" value=adapter.id.0.clone()/>
            <input type="hidden" name="form[reviewed]" value="1"/>
            <TextField name="repo" label="Name on the Hub" value=repo limit=200 hint="Under your own account; write ORGANISATION/NAME for another one."/>
            <Visibility private/>
            <label class="tick">
                <input type="checkbox" name="form[replace]" value="1" checked=replace/>
                <span>"If an adapter is there already, make this its next version"</span>
            </label>
            <TextField name="title" label="Title" value=title limit=MAX_NAME_CHARS hint=""/>
            <TextField name="trigger" label="Trigger phrase" value=trigger limit=MAX_NAME_CHARS hint="The words that call the style. Empty if there are none."/>
            <TextField name="base_model" label="Base model" value=base_model limit=200 hint="OWNER/NAME if it is on the Hub; the page is then linked with it."/>
            <LicenceField licences chosen=licence/>
            <div class="field">
                <label for="rights">"Whose are the training pictures?"</label>
                <textarea id="rights" name="form[rights]" required rows="3" maxlength=MAX_RIGHTS_CHARS.to_string() aria-describedby="rights-hint">{rights}</textarea>
                <p class="hint" id="rights-hint">"Stands on the card, in your words: such as “Painted by me” or “In the public domain”."</p>
            </div>
            <Pictures choices chosen=pictures/>
            <TokenField id="publish-token" publisher adapter=adapter.id hub/>
            <ErrorNote message=refused/>
            <div class="form-actions publish-actions">
                <button type="submit" class="button" formaction="/api/show_card" formnovalidate=true>"Show the card"</button>
                <button type="submit" class="button primary" disabled=busy>"Publish"</button>
            </div>
        </form>
    }
    .into_any()
}

#[component]
fn TextField(name: &'static str, label: &'static str, value: String, limit: usize, hint: &'static str) -> impl IntoView {
    let described = (!hint.is_empty()).then(|| format!("{name}-hint"));
    let hint = described.clone().map(|id| view! { <p class="hint" id=id>{hint}</p> });
    view! {
        <div class="field">
            <label for=name>{label}</label>
            <input type="text" id=name name=format!("form[{name}]") value=value maxlength=limit.to_string() autocomplete="off" aria-describedby=described/>
            {hint}
        </div>
    }
    .into_any()
}

#[component]
fn Visibility(private: bool) -> impl IntoView {
    view! {
        <fieldset class="field segments">
            <legend>"Who may see it"</legend>
            <div>
                <label>
                    <input type="radio" name="form[visibility]" value="public" checked=!private/>
                    <span>"Everybody"</span>
                </label>
                <label>
                    <input type="radio" name="form[visibility]" value="private" checked=private/>
                    <span>"Only me"</span>
                </label>
            </div>
        </fieldset>
    }
}

#[component]
fn LicenceField(licences: Vec<LicenceChoice>, chosen: String) -> impl IntoView {
    let none = chosen.is_empty();
    let options = licences.into_iter().map(|licence| {
        let selected = licence.id == chosen;
        view! { <option value=licence.id selected=selected>{licence.title}</option> }
    });
    view! {
        <div class="field">
            <label for="licence">"Licence of the adapter"</label>
            <select id="licence" name="form[licence]" required>
                <option value="" selected=none>"Choose one"</option>
                {options.collect_view()}
            </select>
        </div>
    }
}

#[component]
fn Pictures(choices: Vec<PictureChoice>, chosen: Vec<String>) -> impl IntoView {
    if choices.is_empty() {
        return view! {
            <div class="field">
                <p class="field-title">"Pictures"</p>
                <p class="hint">"There are none yet: compare the adapter with its base, and choose pairs here."</p>
            </div>
        }
        .into_any();
    }
    let rows = choices.into_iter().map(|choice| {
        let checked = chosen.contains(&choice.id);
        let base = choice.base_url.map(|url| view! { <img src=url alt="" loading="lazy"/> });
        view! {
            <li>
                <label class="pair-choice">
                    <span class="pair">{base} <img src=choice.url alt="" loading="lazy"/></span>
                    <span class="tick">
                        <input type="checkbox" name="form[pictures][]" value=choice.id checked=checked/>
                        <span>{choice.prompt} " " <small>{choice.note}</small></span>
                    </span>
                </label>
            </li>
        }
    });
    view! {
        <fieldset class="field">
            <legend>"Pictures"</legend>
            <p class="hint">{format!("Pairs show the base on the left. Up to {MAX_CARD_PICTURES} go along.")}</p>
            <ul class="pair-choices">{rows.collect_view()}</ul>
        </fieldset>
    }
    .into_any()
}
