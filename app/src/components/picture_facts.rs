//! What a picture was made from, in a line or two.

use crate::api::Picture;
use crate::format;
use leptos::prelude::*;

#[component]
pub fn PictureFacts(picture: Picture) -> impl IntoView {
    let adapters: Vec<_> = picture.adapters.iter().map(|used| format!("{} × {}", used.name, format::number(used.scale))).collect();
    let adapters = (!adapters.is_empty()).then(|| view! { <Fact term="Adapter" value=adapters.join(", ")/> });
    view! {
        <dl class="facts">
            {adapters}
            <Fact term="Seed" value=picture.seed.to_string()/>
            <Fact term="Size" value=format!("{} × {}", picture.width, picture.height)/>
            <Fact term="Steps" value=picture.steps.to_string()/>
            <Fact term="Guidance" value=format::number(picture.guidance)/>
            <Fact term="Model" value=picture.model.clone()/>
            <Fact term="Time" value=format::seconds(picture.seconds)/>
        </dl>
    }
}

#[component]
pub fn Fact(term: &'static str, value: String) -> impl IntoView {
    view! {
        <div>
            <dt>{term}</dt>
            <dd>{value}</dd>
        </div>
    }
}
