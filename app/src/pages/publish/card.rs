//! The card as it will look: findings, text, front matter and files.

use crate::api::CardPreview as Card;
use crate::format;
use leptos::prelude::*;

#[component]
pub fn CardPreview(card: Card) -> impl IntoView {
    let findings = card.findings.into_iter().map(|finding| {
        let class = if finding.blocks { "warning blocks" } else { "warning" };
        view! { <li class=class>{finding.sentence}</li> }
    });
    let files = card.files.into_iter().map(|(path, bytes)| {
        view! {
            <div>
                <dt>{path}</dt>
                <dd>{format::bytes(bytes)}</dd>
            </div>
        }
    });
    view! {
        <section class="card-preview" id="card" aria-labelledby="card-title">
            <h2 id="card-title">"The card"</h2>
            <p class="hint">"As it will look with what is filled in here. After a change, press “Show the card”."</p>
            <ul class="findings">{findings.collect_view()}</ul>
            // Made on the server from Markdown, without anything that runs.
            <div class="card-text" inner_html=card.html></div>
            <details class="more">
                <summary>"Front matter"</summary>
                <pre class="more-body" tabindex="0">{card.front_matter}</pre>
            </details>
            <details class="more">
                <summary>"Files that are sent"</summary>
                <dl class="facts more-body">{files.collect_view()}</dl>
            </details>
        </section>
    }
    .into_any()
}
