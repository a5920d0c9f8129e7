//! Where pictures come from: dropped files, a sample set, or a set from before.

use crate::api::{DatasetInfo, SampleSet};
use crate::calls::datasets::{UseSampleSet, list_datasets, list_sample_sets};
use crate::components::{DropZone, ErrorNote, PostForm, awaited, failure, post_to};
use crate::format;
use leptos::prelude::*;
use leptos_router::hooks::use_navigate;

#[component]
pub fn Sources() -> impl IntoView {
    let sets = Resource::new(|| (), |()| list_sample_sets());
    let earlier = Resource::new(|| (), |()| list_datasets());
    let choose = ServerAction::<UseSampleSet>::new();
    let samples = awaited(move || async move {
        let cards = sets.await.unwrap_or_default().into_iter().map(|set| sample_card(choose, set)).collect_view();
        view! { <ul class="set-grid">{cards}</ul> }.into_any()
    });
    let mine = awaited(move || async move { earlier.await.ok().filter(|sets| !sets.is_empty()).map(mine).into_any() });
    view! {
        <section class="sources" aria-labelledby="sources-title">
            <h2 id="sources-title">"Choose the pictures"</h2>
            <PictureDrop dataset=None on_done=Callback::new(open(use_navigate()))/>
            <h3>"Or try a sample set"</h3>
            {samples}
            <ErrorNote message=failure(choose)/>
            {mine}
        </section>
    }
    .into_any()
}

/// Pictures with their captions, or a zip of them; into `dataset`, or into a new one.
#[component]
pub fn PictureDrop(dataset: Option<String>, on_done: Callback<String>) -> impl IntoView {
    let title = if dataset.is_some() { "Add pictures" } else { "Drop pictures here, or choose files" };
    view! {
        <DropZone
            id="upload-form"
            action="/upload/dataset"
            field="files"
            accept="image/png,image/jpeg,image/webp,.zip,.txt,.jsonl"
            multiple=true
            title=title
            hint="PNG, JPEG or WebP, or one zip. Captions may come along: name.txt beside name.jpg, or metadata.jsonl."
            with=dataset.map(|id| ("dataset", id)).into_iter().collect()
            on_done=on_done
        />
    }
}

/// Goes to the set that the server answered with.
fn open(navigate: impl Fn(&str, leptos_router::NavigateOptions) + Send + Sync + 'static) -> impl Fn(String) + Send + Sync + 'static {
    move |answer| {
        if let Ok(set) = serde_json::from_str::<DatasetInfo>(&answer) {
            navigate(&format!("/train?dataset={}", set.id), Default::default());
        }
    }
}

fn sample_card(choose: ServerAction<UseSampleSet>, set: SampleSet) -> impl IntoView {
    let thumbs = set.preview_urls.iter().take(4).map(|url| view! { <img src=url.clone() alt="" loading="lazy"/> }).collect_view();
    let pending = choose.pending();
    view! {
        <li class="set-card">
            <span class="thumbs">{thumbs}</span>
            <h4>{set.title.clone()}</h4>
            <p>{set.description}</p>
            <PostForm to=post_to(choose)>
                <input type="hidden" name="name" value=set.name/>
                <button type="submit" class="button" disabled=move || pending.get()>
                    {format!("Use {}", set.title)}
                </button>
            </PostForm>
        </li>
    }
}

fn mine(sets: Vec<DatasetInfo>) -> impl IntoView {
    let entry = |set: DatasetInfo| {
        let thumbs: Vec<_> = set.items.iter().take(4).map(|item| format!("/files/datasets/{}/{}/thumb", set.id, item.id)).collect();
        view! {
            <li>
                <a class="set-card" href=format!("/train?dataset={}", set.id)>
                    <span class="thumbs">{thumbs.into_iter().map(|url| view! { <img src=url alt="" loading="lazy"/> }).collect_view()}</span>
                    <strong>{set.name}</strong>
                    <small>{format!("{}, {}", format::count(set.items.len(), "picture"), format::date(set.created_at))}</small>
                </a>
            </li>
        }
    };
    view! {
        <h3>"Or go on with a set of yours"</h3>
        <ul class="set-grid small">{sets.into_iter().take(12).map(entry).collect_view()}</ul>
    }
}
