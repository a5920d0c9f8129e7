//! Size: the model's own sizes as shapes to choose from, or any multiple of 16.

use crate::api::limits::MAX_SIDE;
use crate::forms::{CUSTOM, Drawing};
use leptos::prelude::*;

/// `sizes` are (label, width, height), best first.
#[component]
pub fn SizeField(initial: Drawing, sizes: Vec<(String, u32, u32)>) -> impl IntoView {
    let fallback = sizes.first().map_or_else(|| CUSTOM.into(), |(_, width, height)| format!("{width}x{height}"));
    let chosen = if initial.size.is_empty() { fallback } else { initial.size.clone() };
    let preset = sizes.iter().any(|(_, width, height)| format!("{width}x{height}") == chosen);
    // A size from an old recipe that is none of the presets stands in the two fields.
    let (width, height) = match chosen.split_once('x') {
        Some((width, height)) if !preset => (width.to_owned(), height.to_owned()),
        _ => (or(&initial.width, "256"), or(&initial.height, "256")),
    };
    let shapes: Vec<_> = sizes.into_iter().map(|(label, width, height)| shape(label, width, height, &chosen)).collect();
    view! {
        <fieldset class="field size-field">
            <legend>"Size"</legend>
            <div class="shapes">
                {shapes} <label class="shape">
                    <input type="radio" name="form[size]" value=CUSTOM checked=!preset/>
                    <span class="shape-box custom" aria-hidden="true"></span>
                    <span>"Other"</span>
                </label>
            </div>
            <div class="custom-size">
                <Side label="Width" name="form[width]" value=width/>
                <span aria-hidden="true">"×"</span>
                <Side label="Height" name="form[height]" value=height/>
                <p class="hint">"Multiples of 16. The model draws its own sizes best."</p>
            </div>
        </fieldset>
    }
}

fn shape(label: String, width: u32, height: u32, chosen: &str) -> impl IntoView + use<> {
    let value = format!("{width}x{height}");
    let checked = value == chosen;
    view! {
        <label class="shape">
            <input type="radio" name="form[size]" value=value checked=checked/>
            <span class="shape-box" aria-hidden="true" style=format!("aspect-ratio: {width} / {height}")></span>
            <span>{label}</span>
            <small>{format!("{width} × {height}")}</small>
        </label>
    }
}

#[component]
fn Side(label: &'static str, name: &'static str, value: String) -> impl IntoView {
    view! {
        <label>
            {label}
            <input type="number" name=name value=value min="16" max=MAX_SIDE step="16" inputmode="numeric"/>
        </label>
    }
}

fn or(typed: &str, fallback: &str) -> String {
    if typed.is_empty() { fallback.to_owned() } else { typed.to_owned() }
}
