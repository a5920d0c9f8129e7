//! Two pictures on one spot and a slider between them, moved by pointer or keys.

use leptos::prelude::*;

#[component]
pub fn BeforeAfter(
    #[prop(into)] before: String,
    #[prop(into)] after: String,
    #[prop(into)] before_label: String,
    #[prop(into)] after_label: String,
    width: u32,
    height: u32,
) -> impl IntoView {
    let split = RwSignal::new("50".to_owned());
    let name = format!("Show {before_label} left and {after_label} right of this line");
    view! {
        <div class="before-after" style:--split=move || format!("{}%", split.get()) style:aspect-ratio=format!("{width} / {height}")>
            <img src=after alt=after_label.clone() width=width height=height/>
            <img class="before" src=before alt=before_label.clone() width=width height=height/>
            <span class="tag left" aria-hidden="true">{before_label}</span>
            <span class="tag right" aria-hidden="true">{after_label}</span>
            <span class="handle" aria-hidden="true"></span>
            <input
                type="range"
                min="0"
                max="100"
                step="1"
                value="50"
                aria-label=name
                on:input:target=move |event| split.set(event.target().value())
            />
        </div>
    }
}
