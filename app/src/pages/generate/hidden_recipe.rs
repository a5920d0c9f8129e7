//! A picture's recipe as hidden fields: a form of one button.

use crate::forms::GenerateForm;
use leptos::prelude::*;

#[component]
pub fn HiddenRecipe(form: GenerateForm) -> impl IntoView {
    let drawing = form.drawing;
    let fields = [
        ("prompt", form.prompt),
        ("size", drawing.size),
        ("steps", drawing.steps),
        ("guidance", drawing.guidance),
        ("seed", drawing.seed),
        ("count", drawing.count),
    ];
    let adapters = form.adapters.into_iter().enumerate().map(|(index, choice)| {
        let field = |part| format!("form[adapters][{index}][{part}]");
        view! {
            <input type="hidden" name=field("id") value=choice.id/>
            <input type="hidden" name=field("on") value=choice.on/>
            <input type="hidden" name=field("scale") value=choice.scale/>
        }
    });
    view! {
        {fields.map(|(name, value)| view! { <input type="hidden" name=format!("form[{name}]") value=value/> }).collect_view()}
        {adapters.collect_view()}
    }
}
