//! A place to drop files on. Underneath it is an ordinary file chooser in a form that posts by itself.

use super::{ErrorNote, use_address_error};
use crate::format;
use leptos::{html, prelude::*};

#[component]
pub fn DropZone(
    id: &'static str,
    action: &'static str,
    /// Name of the file field.
    field: &'static str,
    accept: &'static str,
    #[prop(optional)] multiple: bool,
    /// What to drop, in a few words.
    title: &'static str,
    hint: &'static str,
    /// Sent along, before the files: (name, value).
    #[prop(optional)]
    with: Vec<(&'static str, String)>,
    /// Hears the server's answer, JSON.
    on_done: Callback<String>,
) -> impl IntoView {
    let state = Upload { sent: RwSignal::new(None), error: RwSignal::new(None), done: on_done };
    let (form, input, over) = (NodeRef::<html::Form>::new(), NodeRef::<html::Input>::new(), RwSignal::new(false));
    let refused = use_address_error();
    let hidden = with.into_iter().map(|(name, value)| view! { <input type="hidden" name=name value=value/> }).collect_view();
    let percent = move || state.sent.get().map(|share| format!("Sending… {}", format::percent(share)));
    view! {
        <form id=id class="upload" action=action method="post" enctype="multipart/form-data" node_ref=form>
            {hidden}
            <label
                class="drop-zone"
                class:over=move || over.get()
                on:dragover=move |event| {
                    event.prevent_default();
                    over.set(true);
                }
                on:dragleave=move |_| over.set(false)
                on:drop=move |event| {
                    event.prevent_default();
                    over.set(false);
                    state.take_dropped(&event, input);
                    state.send(form, action);
                }
            >
                <strong>{title}</strong>
                <span class="hint">{hint}</span>
                <input type="file" name=field accept=accept multiple=multiple required node_ref=input on:change=move |_| state.send(form, action)/>
            </label>
            <button type="submit" class="button without-script">"Upload"</button>
            <progress max="1" aria-label="Upload" hidden=move || state.sent.with(Option::is_none) value=move || state.sent.get().map(|share| share.to_string())></progress>
            <p class="hint" role="status">{percent}</p>
            <ErrorNote message=Signal::derive(move || state.error.get().or_else(|| refused.get()))/>
        </form>
    }
    .into_any()
}

#[derive(Clone, Copy)]
struct Upload {
    /// Share that was sent, while it is being sent.
    sent: RwSignal<Option<f64>>,
    error: RwSignal<Option<String>>,
    done: Callback<String>,
}

#[cfg(feature = "hydrate")]
impl Upload {
    /// Dropped files become the chosen ones.
    fn take_dropped(self, event: &leptos::ev::DragEvent, input: NodeRef<html::Input>) {
        if let (Some(transfer), Some(input)) = (event.data_transfer(), input.get_untracked()) {
            input.set_files(transfer.files().as_ref());
        }
    }

    fn send(self, form: NodeRef<html::Form>, action: &'static str) {
        let Some(form) = form.get_untracked() else { return };
        let Ok(data) = web_sys::FormData::new_with_form(&form) else { return };
        if let Some(refusal) = too_large(&form) {
            self.error.set(Some(refusal));
            return;
        }
        self.error.set(None);
        self.sent.set(Some(0.0));
        let progress = move |share| {
            self.sent.try_set(Some(share));
        };
        let end = move |answer: Result<String, crate::api::ApiError>| {
            // The visitor may have left the page.
            if self.sent.is_disposed() {
                return;
            }
            self.sent.set(None);
            form.reset();
            match answer {
                Ok(text) => self.done.run(text),
                Err(error) => self.error.set(Some(error.message)),
            }
        };
        if crate::upload::upload(action, &data, progress, end).is_err() {
            self.sent.set(None);
            self.error.set(Some("The browser could not send these files: choose them again.".into()));
        }
    }
}

/// Said before hundreds of megabytes travel in vain.
#[cfg(feature = "hydrate")]
fn too_large(form: &web_sys::HtmlFormElement) -> Option<String> {
    use crate::api::limits::MAX_UPLOAD_BYTES;
    use wasm_bindgen::JsCast;
    let input: web_sys::HtmlInputElement = form.query_selector("input[type=file]").ok()??.dyn_into().ok()?;
    let files = input.files()?;
    let total: f64 = (0..files.length()).filter_map(|index| files.get(index)).map(|file| file.size()).sum();
    (total > MAX_UPLOAD_BYTES as f64).then(|| {
        let (given, limit) = (format::bytes(total as u64), format::bytes(MAX_UPLOAD_BYTES));
        format!("These files are {given} together; one upload takes up to {limit}. Send them in parts.")
    })
}

#[cfg(not(feature = "hydrate"))]
impl Upload {
    fn take_dropped(self, _: &leptos::ev::DragEvent, _: NodeRef<html::Input>) {}

    fn send(self, _: NodeRef<html::Form>, _: &'static str) {
        _ = self.done;
    }
}
