//! The head of a page.

use super::Tendril;
use leptos::prelude::*;
use leptos_meta::Title;

#[component]
pub fn PageTitle(title: &'static str, #[prop(optional)] lead: Option<&'static str>) -> impl IntoView {
    view! {
        <Title text=format!("{title} · Atelier")/>
        <header class="page-title">
            <h1>{title}</h1>
            <Tendril/>
            {lead.map(|lead| view! { <p class="lead">{lead}</p> })}
        </header>
    }
}
