//! Stops a run at its next step; what is finished is kept.

use super::{ErrorNote, Icon, PostForm, failure, icon, post_to};
use crate::api::RunId;
use crate::calls::runs::StopRun;
use leptos::prelude::*;

#[component]
pub fn StopButton(id: RunId, label: &'static str) -> impl IntoView {
    let stop = ServerAction::<StopRun>::new();
    let pending = stop.pending();
    view! {
        <PostForm to=post_to(stop) class="stop">
            <input type="hidden" name="id" value=id.0/>
            <button type="submit" class="button" disabled=move || pending.get()>
                <Icon path=icon::STOP/>
                {label}
            </button>
            <ErrorNote message=failure(stop)/>
        </PostForm>
    }
}
