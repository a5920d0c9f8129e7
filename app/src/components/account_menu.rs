//! Who is signed in, in the header, and the ways in and out. Nothing where nobody signs in.

use crate::api::{Account, ApiError, Member};
use crate::calls::account::get_account;
use crate::forms::sign_in_href;
use leptos::prelude::*;
use leptos_router::hooks::use_location;

type Answer = Resource<Result<Account, ApiError>>;

/// Asked once for all parts of the page.
pub fn provide_account() {
    provide_context::<Answer>(Resource::new(|| (), |()| get_account()));
}

pub fn use_account() -> Answer {
    expect_context()
}

#[component]
pub fn AccountMenu() -> impl IntoView {
    let account = use_account();
    let location = use_location();
    let here = Memo::new(move |_| format!("{}{}", location.pathname.get(), location.search.with(|search| query(search))));
    let part = move || {
        Suspend::new(async move {
            match account.await {
                Ok(Account::Stranger { .. }) => view! { <Entry here/> }.into_any(),
                Ok(Account::Member(member)) => view! { <Signed member/> }.into_any(),
                Ok(Account::Local) | Err(_) => ().into_any(),
            }
        })
    };
    view! { <Transition fallback=|| ()>{part}</Transition> }.into_any()
}

fn query(search: &str) -> String {
    if search.is_empty() { String::new() } else { format!("?{}", search.trim_start_matches('?')) }
}

/// From the sign-in page one goes on to where that page would have led.
#[component]
fn Entry(here: Memo<String>) -> impl IntoView {
    let href = move || here.with(|here| sign_in_href(if here.starts_with("/sign-in") { "/" } else { here.as_str() }, false));
    view! {
        <a class="button" href=href rel="external">
            "Sign in"
        </a>
    }
}

#[component]
fn Signed(member: Member) -> impl IntoView {
    let Member { username, name, host, everyone, .. } = member;
    let initial = name.chars().next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    let label = format!("Account of {username}");
    view! {
        <details class="account">
            <summary aria-label=label>
                <span class="initial" data-initial=initial></span>
                <span class="account-name">{username.clone()}</span>
            </summary>
            <div class="account-menu">
                <p>
                    {name}
                    <small>{username}</small>
                </p>
                {host.then(|| view! { <Everyone everyone/> })}
                <a class="button quiet" href="/sign-in" rel="external">
                    "Permissions"
                </a>
                <form action="/sign-out" method="post">
                    <button type="submit" class="button">
                        "Sign out"
                    </button>
                </form>
            </div>
        </details>
    }
    .into_any()
}

/// For whose studio it is.
#[component]
fn Everyone(everyone: bool) -> impl IntoView {
    let (on, label) = if everyone { ("", "Show my work alone") } else { ("1", "Show everybody's work") };
    view! {
        <form action="/api/look_at_everyone" method="post">
            <input type="hidden" name="on" value=on/>
            <button type="submit" class="button quiet">
                {label}
            </button>
        </form>
    }
}
