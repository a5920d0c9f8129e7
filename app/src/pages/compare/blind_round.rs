//! A blind round: two pictures, no names. Which is better? Then the names, then the next.

use crate::api::Comparison;
use crate::blind::{Round, rounds};
use crate::calls::comparisons::CastVote;
use crate::components::{ErrorNote, PostForm, failure, post_to};
use crate::format;
use leptos::prelude::*;
use leptos_router::hooks::use_query_map;

#[component]
pub fn BlindRound(comparison: RwSignal<Comparison>, active: Memo<bool>) -> impl IntoView {
    let query = use_query_map();
    let place =
        Memo::new(move |_| query.with(|query| (query.get("round").and_then(|round| round.parse().ok()).unwrap_or(1), query.get("chose"))));
    let vote = ServerAction::<CastVote>::new();
    move || {
        if active.get() {
            // The order is known only when every pair is.
            return view! { <p class="note">"The blind round starts when every picture is drawn."</p> }.into_any();
        }
        let (number, chose) = place.get();
        comparison.with(|drawn| {
            let rounds = rounds(drawn);
            let id = drawn.id.0.clone();
            match (rounds.get(usize::wrapping_sub(number, 1)), chose) {
                (Some(round), Some(chose)) => {
                    view! { <Told name=drawn.adapter_name.clone() id round=round.clone() number of=rounds.len() chose/> }.into_any()
                }
                (Some(round), None) => view! { <Asked vote id round=round.clone() number of=rounds.len()/> }.into_any(),
                (None, _) => {
                    view! { <p class="note">"There are no pairs to judge here: draw a comparison with at least one strength."</p> }
                        .into_any()
                }
            }
        })
    }
}

#[component]
fn Asked(vote: ServerAction<CastVote>, id: String, round: Round, number: usize, of: usize) -> impl IntoView {
    let [first, second] = round.pictures().map(|id| format!("/files/pictures/{id}.png"));
    let pending = vote.pending();
    let button = move |choice: &'static str, label: &'static str| {
        view! {
            <button type="submit" class="button" name="choice" value=choice disabled=move || pending.get()>
                {label}
            </button>
        }
    };
    view! {
        <PostForm to=post_to(vote) class="blind">
            <input type="hidden" name="comparison" value=id/>
            <input type="hidden" name="round" value=number/>
            <p class="hint">{format!("Pair {number} of {of}. Which picture is better?")}</p>
            <div class="blind-pair">
                <figure>
                    <img class="frame" src=first alt="First picture"/>
                    {button("first", "First is better")}
                </figure>
                <figure>
                    <img class="frame" src=second alt="Second picture"/>
                    {button("second", "Second is better")}
                </figure>
            </div>
            {button("neither", "No difference")}
            <ErrorNote message=failure(vote)/>
        </PostForm>
    }
    .into_any()
}

#[component]
fn Told(name: String, id: String, round: Round, number: usize, of: usize, chose: String) -> impl IntoView {
    let [first, second] = round.pictures().map(|id| format!("/files/pictures/{id}.png"));
    let adapter = format!("{name} × {}", format::number(round.scale));
    let (first_name, second_name) = if round.adapter_first { (adapter, "Base".to_owned()) } else { ("Base".to_owned(), adapter) };
    let verdict = match chose.as_str() {
        "first" => format!("You preferred: {first_name}."),
        "second" => format!("You preferred: {second_name}."),
        _ => "You saw no difference.".into(),
    };
    let next = if number < of {
        let href = format!("/compare?comparison={id}&view=blind&round={}", number + 1);
        view! { <a class="button primary" href=href>"Next pair"</a> }.into_any()
    } else {
        view! { <p>"That was the last pair."</p> }.into_any()
    };
    view! {
        <div class="blind">
            <p role="status">{verdict}</p>
            <div class="blind-pair">
                <figure>
                    <img class="frame" class:chosen=chose == "first" src=first alt=first_name.clone()/>
                    <figcaption>{first_name}</figcaption>
                </figure>
                <figure>
                    <img class="frame" class:chosen=chose == "second" src=second alt=second_name.clone()/>
                    <figcaption>{second_name}</figcaption>
                </figure>
            </div>
            {next}
        </div>
    }
    .into_any()
}
