//! A picture of a set with its caption, saved when it is left.

use crate::api::{self, DatasetId, limits::MAX_CAPTION_CHARS};
use crate::calls::datasets::{RemoveItem, SetCaption};
use crate::components::{ErrorNote, Icon, PostForm, failure, icon, post_to};
use leptos::prelude::*;

#[component]
pub fn DatasetItem(dataset: DatasetId, item: api::DatasetItem, remove: ServerAction<RemoveItem>) -> impl IntoView {
    let thumb = format!("/files/datasets/{dataset}/{}/thumb", item.id);
    let size = format!("{} × {}", item.width, item.height);
    view! {
        <li class="dataset-item">
            <img src=thumb alt=item.file_name.clone() width=item.width height=item.height loading="lazy"/>
            <div class="dataset-words">
                <CaptionField dataset=dataset.clone() item=item.clone()/>
                <PostForm to=post_to(remove) class="dataset-foot">
                    <span class="hint">{item.file_name.clone()} " · " {size}</span>
                    <input type="hidden" name="dataset" value=dataset.0/>
                    <input type="hidden" name="item" value=item.id/>
                    <button type="submit" class="icon-button" title="Remove from the set" aria-label=format!("Remove {}", item.file_name)>
                        <Icon path=icon::CLOSE/>
                    </button>
                </PostForm>
            </div>
        </li>
    }
    .into_any()
}

#[component]
fn CaptionField(dataset: DatasetId, item: api::DatasetItem) -> impl IntoView {
    let save = ServerAction::<SetCaption>::new();
    let field_id = format!("caption-{}", item.id);
    let saved = move || match save.value().get() {
        Some(Ok(())) if !save.pending().get() => "Saved",
        _ if save.pending().get() => "Saving…",
        _ => "",
    };
    let leave = {
        let (dataset, item) = (dataset.clone(), item.id.clone());
        move |caption: String| {
            save.dispatch(SetCaption { dataset: dataset.clone(), item: item.clone(), caption });
        }
    };
    view! {
        <PostForm to=post_to(save) class="caption">
            <input type="hidden" name="dataset" value=dataset.0/>
            <input type="hidden" name="item" value=item.id/>
            <label class="visually-hidden" for=field_id.clone()>{format!("Caption of {}", item.file_name)}</label>
            <textarea
                id=field_id
                name="caption"
                rows="3"
                maxlength=MAX_CAPTION_CHARS.to_string()
                placeholder="What is to be seen?"
                on:change:target=move |event| leave(event.target().value())
            >
                {item.caption}
            </textarea>
            <button type="submit" class="button without-script">"Save"</button>
            <span class="hint" role="status">{saved}</span>
            <ErrorNote message=failure(save)/>
        </PostForm>
    }
}
