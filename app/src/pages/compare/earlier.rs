//! Earlier comparisons, or what this page is for.

use crate::api::Comparison;
use crate::calls::comparisons::list_comparisons;
use crate::components::{Empty, Fact, awaited};
use crate::format;
use leptos::prelude::*;

#[component]
pub fn Earlier() -> impl IntoView {
    let earlier = Resource::new(|| (), |()| list_comparisons());
    awaited(move || async move {
        match earlier.await {
            Ok(comparisons) if !comparisons.is_empty() => {
                view! {
                    <h2>"Earlier comparisons"</h2>
                    <ul class="comparison-list">{comparisons.into_iter().map(entry).collect_view()}</ul>
                }
                .into_any()
            }
            _ => view! {
                <Empty title="See what an adapter changes">
                    <p>"Choose an adapter and a prompt. Each seed is drawn by the base model and by the adapter, at the strengths you tick."</p>
                </Empty>
            }
            .into_any(),
        }
    })
}

fn entry(comparison: Comparison) -> impl IntoView {
    let pictures = comparison.cells.iter().filter_map(|cell| cell.picture.as_ref()).take(4);
    let thumbs = pictures.map(|id| view! { <img src=format!("/files/pictures/{id}/thumb") alt="" loading="lazy"/> }).collect_view();
    view! {
        <li>
            <a class="comparison-card" href=format!("/compare?comparison={}", comparison.id)>
                <span class="thumbs">{thumbs}</span>
                <strong>{comparison.adapter_name.clone()}</strong>
                <span>{comparison.request.prompt.clone()}</span>
                <dl class="facts">
                    <Fact term="Seeds" value=comparison.request.count.to_string()/>
                    <Fact term="Drawn" value=format::date(comparison.created_at)/>
                </dl>
            </a>
        </li>
    }
}
