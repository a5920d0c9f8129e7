//! Light or dark: the system's choice until the visitor makes one, which is kept.

use super::{Icon, icon};
use leptos::prelude::*;

/// Runs in the head, before anything is painted: the kept theme, and the mark that scripts run.
pub fn theme_script() -> &'static str {
    "document.documentElement.classList.add('scripted');\
     try{const theme=localStorage.getItem('theme');if(theme)document.documentElement.dataset.theme=theme}catch(error){}"
}

#[component]
pub fn ThemeToggle() -> impl IntoView {
    view! {
        <button type="button" class="icon-button needs-script" aria-label="Switch between light and dark" title="Light or dark" on:click=|_| switch()>
            <Icon path=icon::MOON/>
        </button>
    }
}

#[cfg(feature = "hydrate")]
fn switch() {
    let Some(root) = document().document_element() else { return };
    let system_is_dark = || window().match_media("(prefers-color-scheme: dark)").ok().flatten().is_some_and(|query| query.matches());
    let dark = root.get_attribute("data-theme").map_or_else(system_is_dark, |theme| theme == "dark");
    let theme = if dark { "light" } else { "dark" };
    _ = root.set_attribute("data-theme", theme);
    // Private windows may refuse; then the choice lasts as long as the page.
    if let Ok(Some(storage)) = window().local_storage() {
        _ = storage.set_item("theme", theme);
    }
}

#[cfg(not(feature = "hydrate"))]
fn switch() {}
