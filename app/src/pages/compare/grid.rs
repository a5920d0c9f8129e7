//! Side by side: a row for each seed, a column for each strength.

use crate::api::{Comparison, ComparisonCell};
use crate::format;
use leptos::prelude::*;

#[component]
pub fn Grid(comparison: RwSignal<Comparison>) -> impl IntoView {
    move || comparison.with(table)
}

fn table(drawn: &Comparison) -> impl IntoView + use<> {
    let scales = distinct(drawn.cells.iter().map(|cell| cell.scale));
    let seeds = distinct(drawn.cells.iter().map(|cell| cell.seed));
    let heading = |scale: &f64| view! { <th scope="col">{column_name(*scale)}</th> };
    let row = |seed: &u64| {
        let cells = scales.iter().map(|scale| {
            let cell = drawn.cells.iter().find(|cell| cell.seed == *seed && cell.scale == *scale);
            view! { <td>{cell.map(|cell| picture(drawn, cell))}</td> }
        });
        view! {
            <tr>
                <th scope="row">
                    <span class="hint">"Seed"</span>
                    " "
                    {seed.to_string()}
                </th>
                {cells.collect_view()}
            </tr>
        }
    };
    view! {
        <div class="scroll-table" tabindex="0" role="region" aria-label="Pictures by seed and strength">
            <table class="comparison-grid">
                <thead>
                    <tr>
                        <td></td>
                        {scales.iter().map(heading).collect_view()}
                    </tr>
                </thead>
                <tbody>{seeds.iter().map(row).collect_view()}</tbody>
            </table>
        </div>
    }
}

fn picture(drawn: &Comparison, cell: &ComparisonCell) -> AnyView {
    let (width, height) = (drawn.request.width, drawn.request.height);
    let Some(id) = &cell.picture else {
        return view! { <div class="frame waiting" style=format!("aspect-ratio: {width} / {height}")></div> }.into_any();
    };
    let url = format!("/files/pictures/{id}.png");
    let alt = format!("{}, seed {}: {}", column_name(cell.scale), cell.seed, drawn.request.prompt);
    view! {
        <a class="frame" href=format!("/gallery?picture={id}")>
            <img class="result" src=url alt=alt width=width height=height loading="lazy"/>
        </a>
    }
    .into_any()
}

fn column_name(scale: f64) -> String {
    if scale == 0.0 { "Base".into() } else { format!("× {}", format::number(scale)) }
}

/// In order of appearance: the server draws the base first.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}
