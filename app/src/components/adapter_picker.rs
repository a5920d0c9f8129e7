//! Adapters to draw with: tick any number of them, each with its strength.

use crate::api::{AdapterInfo, limits};
use crate::forms::AdapterChoice;
use leptos::prelude::*;

#[component]
pub fn AdapterPicker(adapters: Vec<AdapterInfo>, chosen: Vec<AdapterChoice>) -> impl IntoView {
    if adapters.is_empty() {
        let none = view! {
            <div class="field adapter-picker">
                <h2 class="field-title">"Adapters"</h2>
                <p class="hint">"None yet. " <a href="/train">"Train one on pictures of a style"</a> ", and choose it here."</p>
            </div>
        };
        return none.into_any();
    }
    let rows: Vec<_> = adapters.into_iter().enumerate().map(|(index, adapter)| row(index, adapter, &chosen)).collect();
    let some = view! {
        <fieldset class="field adapter-picker">
            <legend>"Adapters"</legend>
            <div class="adapter-rows">{rows}</div>
        </fieldset>
    };
    some.into_any()
}

fn row(index: usize, adapter: AdapterInfo, chosen: &[AdapterChoice]) -> impl IntoView + use<> {
    let choice = chosen.iter().find(|choice| choice.id == adapter.id.0 && choice.is_on());
    let scale = choice.map_or_else(|| "1".into(), |choice| choice.scale.clone());
    let shown = RwSignal::new(scale.clone());
    let field = |part| format!("form[adapters][{index}][{part}]");
    let (max, min) = (limits::MAX_SCALE.to_string(), (-limits::MAX_SCALE).to_string());
    let note = if adapter.training { Some("still training".to_owned()) } else { adapter.trigger.clone() };
    view! {
        <div class="adapter-row">
            <input type="hidden" name=field("id") value=adapter.id.0.clone()/>
            <label class="adapter-tick">
                <input type="checkbox" name=field("on") value="1" checked=choice.is_some()/>
                {adapter.sample_urls.first().map(|url| view! { <img src=url.clone() alt="" width="40" height="40" loading="lazy"/> })}
                <span>
                    {adapter.name.clone()}
                    {note.map(|note| view! { <small>{note}</small> })}
                </span>
            </label>
            <label class="adapter-strength">
                <span>"Strength " <span class="visually-hidden">{format!("of {}", adapter.name)}</span> <output>{move || shown.get()}</output></span>
                <input
                    type="range"
                    name=field("scale")
                    min=min
                    max=max
                    step="0.05"
                    value=scale
                    on:input:target=move |event| shown.set(event.target().value())
                />
            </label>
        </div>
    }
}
