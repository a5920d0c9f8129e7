//! Gallery: every picture with its recipe.

mod detail;
mod grid;
mod search;

use crate::api::{AdapterId, PictureFilter, PictureId};
use crate::calls::{
    adapters::list_adapters,
    pictures::{DeletePicture, list_pictures},
};
use crate::components::{ErrorNote, PageTitle, awaited, failure};
use detail::Detail;
use grid::Grid;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;
use leptos_router::params::ParamsMap;
use search::Search;

/// Pictures on a page of the grid: whole rows at 2, 3, 4 and 6 columns.
const PAGE: u32 = 24;

#[component]
pub fn GalleryPage() -> impl IntoView {
    let query = use_query_map();
    let filter = Memo::new(move |_| query.with(filter_of));
    let open = Memo::new(move |_| query.with(|query| query.get("picture")).map(PictureId));
    let delete = ServerAction::<DeletePicture>::new();
    let pictures = Resource::new(move || (filter.get(), delete.version().get()), |(filter, _)| list_pictures(filter));
    let adapters = Resource::new(|| (), |()| list_adapters());
    let grid = awaited(move || async move {
        match pictures.await {
            Ok(pictures) => view! { <Grid filter=filter.get_untracked() pictures/> }.into_any(),
            Err(error) => view! { <ErrorNote message=Some(error.message)/> }.into_any(),
        }
    });
    let search = awaited(move || async move {
        let adapters = adapters.await.unwrap_or_default();
        view! { <Search adapters filter/> }.into_any()
    });
    view! {
        <PageTitle title="Gallery"/>
        {search}
        <ErrorNote message=failure(delete)/>
        // Above the grid, where it opens when there are no scripts to make it modal.
        {move || open.get().map(|id| view! { <Detail id filter=filter.get_untracked() delete/> })}
        {grid}
    }
    .into_any()
}

fn filter_of(query: &ParamsMap) -> PictureFilter {
    let some = |name: &str| query.get(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    PictureFilter { search: some("search"), adapter: some("adapter").map(AdapterId), before: some("before").map(PictureId), limit: PAGE }
}

/// The address of the gallery with this filter and, last, one more value.
fn address(filter: &PictureFilter, more: Option<(&str, &str)>) -> String {
    let mut values = vec![
        ("search", filter.search.as_deref()),
        ("adapter", filter.adapter.as_ref().map(|id| id.0.as_str())),
        ("before", filter.before.as_ref().map(|id| id.0.as_str())),
    ];
    if let Some((name, value)) = more {
        values.retain(|(known, _)| *known != name);
        values.push((name, Some(value)));
    }
    let given: ParamsMap = values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    format!("/gallery{}", given.to_query_string())
}
