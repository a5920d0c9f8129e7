//! Size, and folded away: steps, guidance, seed and count.

use super::{SeedField, SizeField, SliderField};
use crate::api::{Studio, limits};
use crate::format;
use crate::forms::Drawing;
use leptos::prelude::*;

#[component]
pub fn DrawingFields(
    initial: Drawing,
    studio: Studio,
    /// What is counted, such as `Pictures`.
    counted: &'static str,
    #[prop(into)] last_seed: Signal<Option<u64>>,
) -> impl IntoView {
    let or = |typed: &str, default: String| if typed.is_empty() { default } else { typed.to_owned() };
    let steps = or(&initial.steps, studio.default_steps.to_string());
    let guidance = or(&initial.guidance, format::number(studio.default_guidance));
    let count = or(&initial.count, "1".into());
    view! {
        <SizeField initial=initial.clone() sizes=studio.sizes/>
        <details class="more" open=initial != Drawing::default()>
            <summary>"More settings"</summary>
            <div class="more-body">
                <SliderField
                    id="steps"
                    name="form[steps]"
                    label="Steps"
                    initial=steps
                    min="1"
                    max=limits::MAX_STEPS.to_string()
                    step="1"
                    hint="More steps are slower and finer."
                />
                <SliderField
                    id="guidance"
                    name="form[guidance]"
                    label="Guidance"
                    initial=guidance
                    min="0"
                    max=format::number(limits::MAX_GUIDANCE)
                    step="0.1"
                    hint="How literally the prompt is taken."
                />
                <SeedField initial=initial.seed.clone() last=last_seed/>
                <CountField counted count/>
            </div>
        </details>
    }
    .into_any()
}

#[component]
fn CountField(counted: &'static str, count: String) -> impl IntoView {
    let choices: Vec<_> = (1..=limits::MAX_COUNT)
        .map(|number| {
            let checked = number.to_string() == count;
            view! {
                <label>
                    <input type="radio" name="form[count]" value=number checked=checked/>
                    <span>{number}</span>
                </label>
            }
        })
        .collect();
    view! {
        <fieldset class="field segments">
            <legend>{counted}</legend>
            <div>{choices}</div>
        </fieldset>
    }
}
