//! Adapters: what exists, and what to do with it.

mod card;

use crate::api::AdapterInfo;
use crate::calls::adapters::{DeleteAdapter, RenameAdapter, list_adapters};
use crate::components::{DropZone, Empty, ErrorNote, PageTitle, awaited, failure};
use card::AdapterCard;
use leptos::prelude::*;

#[component]
pub fn AdaptersPage() -> impl IntoView {
    let (rename, delete) = (ServerAction::<RenameAdapter>::new(), ServerAction::<DeleteAdapter>::new());
    let uploads = RwSignal::new(0u32);
    let changes = move || (rename.version().get(), delete.version().get(), uploads.get());
    let adapters = Resource::new(changes, |_| list_adapters());
    let list = awaited(move || async move {
        match adapters.await {
            Ok(adapters) => view! { <Cards adapters rename delete/> }.into_any(),
            Err(error) => view! { <ErrorNote message=Some(error.message)/> }.into_any(),
        }
    });
    view! {
        <PageTitle title="Adapters" lead="Styles that the model has learned, each a small file beside it."/>
        <ErrorNote message=failure(rename)/>
        <ErrorNote message=failure(delete)/>
        {list}
        <section class="upload-section" aria-labelledby="upload-title">
            <h2 id="upload-title">"Bring an adapter"</h2>
            <DropZone
                id="adapter-upload-form"
                action="/upload/adapter"
                field="file"
                accept=".safetensors"
                title="Drop a .safetensors file, or choose one"
                hint="A FLUX.1 LoRA in diffusers, kohya or PEFT layout, made for the model that this studio runs."
                on_done=Callback::new(move |_| uploads.update(|count| *count += 1))
            />
        </section>
    }
    .into_any()
}

#[component]
fn Cards(adapters: Vec<AdapterInfo>, rename: ServerAction<RenameAdapter>, delete: ServerAction<DeleteAdapter>) -> impl IntoView {
    if adapters.is_empty() {
        return view! {
            <Empty title="No adapters yet">
                <p>"Teach the model a style from a handful of pictures. It takes minutes."</p>
                <p>
                    <a class="button primary" href="/train">"Train an adapter"</a>
                </p>
            </Empty>
        }
        .into_any();
    }
    view! {
        <ul class="adapter-grid">
            // By name, so that a card that was opened to delete its adapter does not stay open for the next one.
            <For each=move || adapters.clone() key=|adapter| (adapter.id.clone(), adapter.name.clone()) let:adapter>
                <AdapterCard adapter rename delete/>
            </For>
        </ul>
    }
    .into_any()
}
