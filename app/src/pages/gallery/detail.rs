//! One picture, large, over the gallery: a dialog with an address of its own.

use super::address;
use crate::api::{Picture, PictureFilter, PictureId};
use crate::calls::pictures::{DeletePicture, get_picture};
use crate::components::{Confirm, Fact, Icon, PictureFacts, PostForm, awaited, icon, post_to};
use crate::format;
use crate::forms::{CompareForm, GenerateForm};
use leptos::{html, prelude::*};
use leptos_router::hooks::use_navigate;

#[component]
pub fn Detail(id: PictureId, filter: PictureFilter, delete: ServerAction<DeletePicture>) -> impl IntoView {
    let picture = Resource::new(move || id.clone(), get_picture);
    let dialog = NodeRef::<html::Dialog>::new();
    let back = address(&filter, None);
    show_modal(dialog);
    let close = {
        let (navigate, back) = (use_navigate(), back.clone());
        move |_| navigate(&back, leptos_router::NavigateOptions { scroll: false, ..Default::default() })
    };
    let body = awaited(move || async move {
        match picture.await {
            Ok(picture) => view! { <Shown picture delete/> }.into_any(),
            Err(error) => view! { <p class="note">{error.message}</p> }.into_any(),
        }
    });
    view! {
        // Open from the server on; the browser makes it modal. Escape fires `close`.
        <dialog class="picture-dialog" node_ref=dialog open aria-label="Picture" on:close=close>
            <a class="icon-button close" href=back aria-label="Close" title="Close">
                <Icon path=icon::CLOSE/>
            </a>
            {body}
        </dialog>
    }
    .into_any()
}

#[component]
fn Shown(picture: Picture, delete: ServerAction<DeletePicture>) -> impl IntoView {
    let compare = CompareForm::of(&picture).href();
    let deleting = delete.pending();
    view! {
        <div class="picture-detail">
            <a class="frame" href=picture.url() rel="external" title="Open in full size">
                <img class="result" src=picture.url() alt=picture.prompt.clone() width=picture.width height=picture.height/>
            </a>
            <div>
                <h2 class="work-title">{picture.prompt.clone()}</h2>
                <PictureFacts picture=picture.clone()/>
                <dl class="facts">
                    <Fact term="Drawn" value=format::date(picture.created_at)/>
                </dl>
                <div class="actions">
                    <a class="button primary" href=GenerateForm::of(&picture).href()>
                        <Icon path=icon::BRUSH/>
                        "Reuse"
                    </a>
                    <a class="button" href=format!("{}?download", picture.url()) download=format!("atelier-{}.png", picture.seed)>
                        <Icon path=icon::DOWNLOAD/>
                        "Download"
                    </a>
                    <a class="button" href=compare>
                        <Icon path=icon::COLUMNS/>
                        "Compare"
                    </a>
                    <Confirm label="Delete" warning="The picture is deleted for good.">
                        <PostForm to=post_to(delete)>
                            <input type="hidden" name="id" value=picture.id.0/>
                            <button type="submit" class="button danger" disabled=move || deleting.get()>
                                "Delete this picture"
                            </button>
                        </PostForm>
                    </Confirm>
                </div>
            </div>
        </div>
    }
    .into_any()
}

/// Modal: the rest of the page is out of reach until it is closed. An open dialog has to be closed first.
fn show_modal(dialog: NodeRef<html::Dialog>) {
    Effect::new(move |_| {
        if let Some(dialog) = dialog.get() {
            _ = dialog.remove_attribute("open");
            _ = dialog.show_modal();
        }
    });
}
