//! What this training was asked to do.

use crate::api::TrainingDetail;
use crate::components::Fact;
use crate::format;
use leptos::prelude::*;

#[component]
pub fn SettingsList(detail: TrainingDetail) -> impl IntoView {
    let settings = detail.request.settings;
    let facts = [
        ("Recipe", Some(detail.request.recipe)),
        ("Steps", settings.steps.map(|value| value.to_string())),
        ("Rank", settings.rank.map(|value| value.to_string())),
        ("Alpha", settings.alpha.map(format::number)),
        ("Learning rate", settings.learning_rate.map(format::number)),
        ("Schedule", settings.schedule),
        ("Batch size", settings.batch_size.map(|value| value.to_string())),
        ("Batches per step", settings.accumulate.map(|value| value.to_string())),
        ("Size", settings.resolution.map(|size| size.replace('x', " × "))),
        ("Layers", settings.targets),
        ("Optimiser", settings.optimizer),
        ("Noise levels", settings.timestep_sampling.map(|value| value.replace('_', " "))),
        ("Seed", settings.seed.map(|value| value.to_string())),
        ("Checkpoint every", settings.checkpoint_every.map(|value| value.to_string())),
    ];
    let known = facts.into_iter().filter_map(|(term, value)| value.map(|value| view! { <Fact term value/> }));
    view! {
        <details class="more">
            <summary>"Settings"</summary>
            <dl class="facts more-body">{known.collect_view()}</dl>
        </details>
    }
}
