//! Sample pictures, newest checkpoint first.

use crate::api::Sample;
use crate::components::When;
use crate::live::Feed;
use leptos::prelude::*;

#[component]
pub fn Samples(feed: Feed) -> impl IntoView {
    let steps = move || feed.samples.with(|samples| by_step(samples));
    let none = move || feed.samples.with(Vec::is_empty);
    view! {
        <section class="samples" aria-labelledby="samples-title">
            <h2 id="samples-title">"Samples"</h2>
            <When holds=Signal::derive(none)>
                <p class="hint">"At every checkpoint the adapter draws its sample prompts here."</p>
            </When>
            <For each=steps key=|(step, samples)| (*step, samples.len()) let((step, samples))>
                <h3>{if step == 0 { "Before training".to_owned() } else { format!("Step {step}") }}</h3>
                <ul class="sample-grid">{samples.into_iter().map(shown).collect_view()}</ul>
            </For>
        </section>
    }
}

fn shown(sample: Sample) -> impl IntoView {
    view! {
        <li>
            <figure class="sample">
                <img class="frame" src=sample.url alt="" loading="lazy"/>
                <figcaption>{sample.prompt.clone()}</figcaption>
            </figure>
        </li>
    }
}

fn by_step(samples: &[Sample]) -> Vec<(u32, Vec<Sample>)> {
    let mut steps: Vec<(u32, Vec<Sample>)> = Vec::new();
    for sample in samples {
        match steps.last_mut() {
            Some((step, group)) if *step == sample.step => group.push(sample.clone()),
            _ => steps.push((sample.step, vec![sample.clone()])),
        }
    }
    steps.reverse();
    steps
}
