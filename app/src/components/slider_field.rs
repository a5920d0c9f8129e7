//! A range with its value beside it.

use leptos::{html, prelude::*};

#[component]
pub fn SliderField(
    #[prop(into)] id: String,
    #[prop(into)] name: String,
    #[prop(into)] label: String,
    #[prop(into)] initial: String,
    #[prop(into)] min: String,
    #[prop(into)] max: String,
    #[prop(into)] step: String,
    #[prop(optional, into)] hint: Option<String>,
) -> impl IntoView {
    let shown = RwSignal::new(initial.clone());
    let field = NodeRef::<html::Input>::new();
    // Browsers keep a moved slider over a reload.
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            shown.set(field.value());
        }
    });
    let hint_id = format!("{id}-hint");
    let described_by = hint.is_some().then(|| hint_id.clone());
    view! {
        <div class="field slider-field">
            <label for=id.clone()>{label}</label>
            <output for=id.clone()>{move || shown.get()}</output>
            <input
                type="range"
                id=id
                name=name
                min=min
                max=max
                step=step
                value=initial
                aria-describedby=described_by
                node_ref=field
                on:input:target=move |event| shown.set(event.target().value())
            />
            {hint.map(|hint| view! { <p class="hint" id=hint_id>{hint}</p> })}
        </div>
    }
}
