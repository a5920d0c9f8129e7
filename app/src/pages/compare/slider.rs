//! Base and adapter on one spot, for one seed and strength at a time.

use crate::api::{Comparison, ComparisonCell};
use crate::components::BeforeAfter;
use crate::format;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

/// The pair stands in the address (`seed`, `scale`); the first one that is drawn otherwise.
#[component]
pub fn Slider(comparison: RwSignal<Comparison>) -> impl IntoView {
    let query = use_query_map();
    let wanted = Memo::new(move |_| query.with(|query| (query.get("seed"), query.get("scale"))));
    move || {
        comparison.with(|drawn| {
            let pairs = pairs(drawn);
            let wanted = wanted.get();
            let matches = |pair: &&Pair| Some(pair.seed.to_string()) == wanted.0 && Some(format::number(pair.scale)) == wanted.1;
            match pairs.iter().find(matches).or(pairs.first()) {
                Some(pair) => view! {
                    <Shown drawn=drawn.clone() pair=pair.clone()/>
                    <Choices id=drawn.id.0.clone() pairs=pairs.clone() shown=pair.clone()/>
                }
                .into_any(),
                None => view! { <div class="frame waiting"></div> }.into_any(),
            }
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Pair {
    seed: u64,
    scale: f64,
    base: String,
    adapted: String,
}

fn pairs(drawn: &Comparison) -> Vec<Pair> {
    let url = |cell: &ComparisonCell| cell.picture.as_ref().map(|id| format!("/files/pictures/{id}.png"));
    let base_of = |seed| drawn.cells.iter().find(|cell| cell.seed == seed && cell.scale == 0.0).and_then(url);
    let pair = |cell: &ComparisonCell| Some(Pair { seed: cell.seed, scale: cell.scale, base: base_of(cell.seed)?, adapted: url(cell)? });
    drawn.cells.iter().filter(|cell| cell.scale != 0.0).filter_map(pair).collect()
}

#[component]
fn Shown(drawn: Comparison, pair: Pair) -> impl IntoView {
    let after = format!("{} × {}", drawn.adapter_name, format::number(pair.scale));
    view! {
        <BeforeAfter
            before=pair.base
            after=pair.adapted
            before_label="Base"
            after_label=after
            width=drawn.request.width
            height=drawn.request.height
        />
    }
}

#[component]
fn Choices(id: String, pairs: Vec<Pair>, shown: Pair) -> impl IntoView {
    let choice = |pair: Pair| {
        let scale = format::number(pair.scale);
        let href = format!("/compare?comparison={id}&view=slider&seed={}&scale={scale}", pair.seed);
        let current = (pair == shown).then_some("true");
        view! {
            <li>
                <a class="chip" href=href aria-current=current>
                    {format!("Seed {}, × {scale}", pair.seed)}
                </a>
            </li>
        }
    };
    (pairs.len() > 1).then(|| view! { <ul class="ideas" aria-label="Pairs">{pairs.iter().cloned().map(choice).collect_view()}</ul> })
}
