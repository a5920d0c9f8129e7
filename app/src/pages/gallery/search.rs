//! Search in prompts and filter by adapter: a plain GET form.

use crate::api::{AdapterInfo, PictureFilter};
use crate::components::{Icon, icon};
use leptos::prelude::*;

#[component]
pub fn Search(adapters: Vec<AdapterInfo>, filter: Memo<PictureFilter>) -> impl IntoView {
    let given = filter.get_untracked();
    let chosen = given.adapter.map(|id| id.0).unwrap_or_default();
    let options = adapters.into_iter().map(move |adapter| {
        let selected = adapter.id.0 == chosen;
        view! { <option value=adapter.id.0 selected=selected>{adapter.name}</option> }
    });
    view! {
        <form method="get" action="/gallery" class="search" role="search">
            <label class="visually-hidden" for="search">"Words in the prompt"</label>
            <input type="search" id="search" name="search" value=given.search.unwrap_or_default() placeholder="Words in the prompt"/>
            <label class="visually-hidden" for="by-adapter">"Adapter"</label>
            <select id="by-adapter" name="adapter">
                <option value="">"Any adapter"</option>
                {options.collect_view()}
            </select>
            <button type="submit" class="button">
                <Icon path=icon::LOUPE/>
                "Search"
            </button>
        </form>
    }
}
