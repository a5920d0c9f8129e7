//! One style set: its pictures and captions, its trigger phrase, and the training form beside them.

use super::caption::DatasetItem;
use super::form::{TrainFields, open};
use super::sources::PictureDrop;
use crate::api::{DatasetId, DatasetInfo};
use crate::calls::datasets::{DeleteDataset, RemoveItem, SetTrigger, get_dataset};
use crate::components::{Confirm, Empty, ErrorNote, PostForm, awaited, failure, post_to};
use crate::format;
use crate::forms::TrainForm;
use leptos::prelude::*;

/// Counts what was removed, renamed and added.
pub type Changes = (usize, usize, u32);

/// Two parts that load apart, so that a change among the pictures leaves what is typed into the form alone.
#[component]
pub fn DatasetDesk(id: DatasetId, typed: TrainForm) -> impl IntoView {
    let (remove, trigger) = (ServerAction::<RemoveItem>::new(), ServerAction::<SetTrigger>::new());
    let uploads = RwSignal::new(0u32);
    let uploaded = Callback::new(move |_| uploads.update(|count| *count += 1));
    let changes = Memo::new(move |_| (remove.version().get(), trigger.version().get(), uploads.get()));
    let dataset = {
        let id = id.clone();
        Resource::new(move || (id.clone(), changes.get()), |(id, _)| get_dataset(id))
    };
    let opened = Resource::new(|| (), move |()| open(id.clone(), typed.clone()));
    let pictures = awaited(move || async move {
        match dataset.await {
            Ok(set) => view! { <Pictures set remove trigger uploaded/> }.into_any(),
            Err(error) => view! { <Missing message=error.message/> }.into_any(),
        }
    });
    let form = awaited(move || async move {
        // Why it cannot be opened stands where the pictures would be.
        opened.await.ok().map(|opened| view! { <TrainFields opened changes/> }).into_any()
    });
    view! {
        <div class="train-desk">
            <section class="dataset" aria-label="Pictures">
                {pictures}
            </section>
            <section class="panel" id="training" aria-label="Training">
                {form}
            </section>
        </div>
    }
    .into_any()
}

#[component]
fn Pictures(
    set: DatasetInfo,
    remove: ServerAction<RemoveItem>,
    trigger: ServerAction<SetTrigger>,
    uploaded: Callback<String>,
) -> impl IntoView {
    let id = set.id.0.clone();
    let (dataset, items) = (set.id.clone(), set.items.clone());
    view! {
        <header class="stage-header">
            <h2>{set.name.clone()}</h2>
            <p class="hint">{format::count(set.items.len(), "picture")} ". Captions say what is to be seen; the style itself is learned."</p>
        </header>
        <a class="button only-phone" href="#training">
            "Go to the recipe"
        </a>
        <TriggerField set=set.clone() trigger/>
        <ErrorNote message=failure(remove)/>
        <ul class="dataset-grid">
            // By caption too: a new one has to show in a field that was typed into.
            <For each=move || items.clone() key=|item| (item.id.clone(), item.caption.clone()) let:item>
                <DatasetItem dataset=dataset.clone() item remove/>
            </For>
        </ul>
        <PictureDrop dataset=Some(id.clone()) on_done=uploaded/>
        <div class="actions">
            <a class="button quiet" href="/train">
                "Choose other pictures"
            </a>
            <DeleteSet id/>
        </div>
    }
    .into_any()
}

#[component]
fn TriggerField(set: DatasetInfo, trigger: ServerAction<SetTrigger>) -> impl IntoView {
    let pending = trigger.pending();
    view! {
        <PostForm to=post_to(trigger) class="field trigger-field">
            <input type="hidden" name="dataset" value=set.id.0/>
            <label for="trigger">"Trigger phrase"</label>
            <div class="with-buttons">
                <input
                    type="text"
                    id="trigger"
                    name="trigger"
                    value=set.trigger.unwrap_or_default()
                    placeholder="art nouveau panel"
                    aria-describedby="trigger-hint"
                    autocomplete="off"
                />
                <button type="submit" class="button" disabled=move || pending.get()>
                    "Apply"
                </button>
            </div>
            <p class="hint" id="trigger-hint">"Words that call the style up. Applying adds them to every caption that lacks them."</p>
            <ErrorNote message=failure(trigger)/>
        </PostForm>
    }
}

#[component]
fn DeleteSet(id: String) -> impl IntoView {
    let delete = ServerAction::<DeleteDataset>::new();
    view! {
        <Confirm label="Delete set" warning="The pictures and captions of this set are deleted. Adapters trained on them stay.">
            <PostForm to=post_to(delete)>
                <input type="hidden" name="id" value=id/>
                <button type="submit" class="button danger">"Delete this set"</button>
                <ErrorNote message=failure(delete)/>
            </PostForm>
        </Confirm>
    }
}

#[component]
fn Missing(message: String) -> impl IntoView {
    view! {
        <Empty title="This set cannot be opened">
            <p>{message}</p>
            <p>
                <a class="button primary" href="/train">"Choose pictures"</a>
            </p>
        </Empty>
    }
}
