//! Votes so far for one adapter, with the interval of its win rate.

use crate::api::{ApiResult, ComparisonId, Tally};
use crate::calls::comparisons::{get_comparison, get_tally};
use crate::components::awaited;
use crate::format;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

#[component]
pub fn TallyLine(id: ComparisonId) -> impl IntoView {
    let query = use_query_map();
    // Every vote lands on an address of its own: then the tally has changed.
    let told = Memo::new(move |_| query.with(|query| (query.get("round"), query.get("chose"))));
    let tally = Resource::new(move || (id.clone(), told.get()), |(id, _)| tally_of(id));
    awaited(move || async move { tally.await.ok().filter(|tally| tally.wins + tally.losses + tally.ties > 0).map(shown).into_any() })
}

/// Of the adapter that the comparison is about.
async fn tally_of(id: ComparisonId) -> ApiResult<Tally> {
    get_tally(get_comparison(id).await?.request.adapter).await
}

fn shown(tally: Tally) -> impl IntoView {
    let votes = format!("Blind votes for this adapter: {} won, {} lost, {} tied.", tally.wins, tally.losses, tally.ties);
    let rate = match (tally.win_rate, tally.low, tally.high) {
        (Some(rate), Some(low), Some(high)) => {
            let words =
                format!("Preferred in {}, 95 % interval {} to {}.", format::percent(rate), format::percent(low), format::percent(high));
            view! {
                <svg class="interval" viewBox="0 0 200 16" role="img" aria-label=words.clone()>
                    <line class="scale" x1="0" x2="200" y1="8" y2="8"/>
                    <line class="half" x1="100" x2="100" y1="2" y2="14"/>
                    <line class="span" x1=low * 200.0 x2=high * 200.0 y1="8" y2="8"/>
                    <circle cx=rate * 200.0 cy="8" r="5"/>
                </svg>
                <p>{words}</p>
            }
            .into_any()
        }
        _ => ().into_any(),
    };
    view! {
        <section class="tally" aria-label="Votes">
            <p>{votes}</p>
            {rate}
        </section>
    }
}
