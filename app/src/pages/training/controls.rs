//! Stop, resume, and the adapter as it is now.

use crate::api::{AdapterId, RunState};
use crate::calls::runs::ResumeRun;
use crate::calls::training::get_training;
use crate::components::{ErrorNote, Icon, PostForm, StopButton, When, failure, icon, post_to};
use crate::forms::{CompareForm, GenerateForm};
use crate::live::Feed;
use leptos::prelude::*;

#[component]
pub fn Controls(feed: Feed, adapter: Option<AdapterId>, last_checkpoint: Option<u32>, resume: ServerAction<ResumeRun>) -> impl IntoView {
    let id = feed.run.with_untracked(|run| run.id.clone());
    let saved = RwSignal::new((adapter, last_checkpoint));
    watch_checkpoints(feed, saved);
    let active = Memo::new(move |_| feed.is_active());
    // What ended before it had an adapter kept nothing to go on from.
    let has_adapter = move || saved.with(|(adapter, _)| adapter.is_some());
    let resumable = Memo::new(move |_| has_adapter() && feed.run.with(|run| matches!(run.state, RunState::Stopped | RunState::Failed)));
    let stop_id = id.clone();
    view! {
        <div class="actions">
            {move || saved.get().0.map(|adapter| view! { <AdapterActions adapter/> })}
            <When holds=active>
                <StopButton id=stop_id.clone() label="Stop"/>
            </When>
            <When holds=resumable>
                <Resume id=id.0.clone() resume/>
            </When>
        </div>
        <p class="hint">{move || saved.get().1.map(|step| format!("Last checkpoint: step {step}."))}</p>
    }
    .into_any()
}

#[component]
fn AdapterActions(adapter: AdapterId) -> impl IntoView {
    view! {
        <a class="button primary" href=GenerateForm::with_adapter(&adapter).href()>
            <Icon path=icon::BRUSH/>
            "Use this adapter"
        </a>
        <a class="button" href=CompareForm::with_adapter(&adapter).href()>
            <Icon path=icon::COLUMNS/>
            "Compare"
        </a>
        <a class="button" href=format!("/files/adapters/{adapter}.safetensors") download="">
            <Icon path=icon::DOWNLOAD/>
            "Download"
        </a>
    }
}

#[component]
fn Resume(id: String, resume: ServerAction<ResumeRun>) -> impl IntoView {
    view! {
        <PostForm to=post_to(resume)>
            <input type="hidden" name="id" value=id/>
            <button type="submit" class="button primary" disabled=move || resume.pending().get()>
                "Resume"
            </button>
            <ErrorNote message=failure(resume)/>
        </PostForm>
    }
}

/// A checkpoint shows itself by its samples, the end by the state: then there may be an adapter to use.
fn watch_checkpoints(feed: Feed, saved: RwSignal<(Option<AdapterId>, Option<u32>)>) {
    Effect::new(move |before: Option<(u32, bool)>| {
        let sampled = feed.samples.with(|samples| samples.last().map_or(0, |sample| sample.step));
        let now = (sampled, feed.is_active());
        if before.is_some_and(|before| before != now) {
            let id = feed.run.with_untracked(|run| run.id.clone());
            leptos::task::spawn_local(async move {
                if let Ok(detail) = get_training(id).await {
                    saved.try_set((detail.adapter, detail.last_checkpoint));
                }
            });
        }
        now
    });
}
