//! The Art Nouveau hairline: whiplash stems that leave a bud and curl back on themselves. They carry no meaning, so no words.

use leptos::prelude::*;

/// One stem, from the bud at the right outwards to the left.
const STEM: &str = "M160 25 C150 12 132 8 120 14 C108 20 112 31 121 29 C129 27 126 17 116 18 C92 20 74 33 48 29 C30 26 14 19 2 22";
/// A leaf that leaves the stem.
const LEAF: &str = "M84 26 C76 14 62 10 50 15 C60 18 70 24 84 26 Z";
const BUD: &str = "M160 6 C166 13 166 20 160 26 C154 20 154 13 160 6 Z M160 26 C160 29 160 31 160 34";

/// Two stems and a bud, for the middle of a page.
#[component]
pub fn Flourish() -> impl IntoView {
    view! {
        <svg class="flourish" viewBox="0 0 320 40" aria-hidden="true" focusable="false">
            <path d=BUD/>
            <g>
                <path d=STEM/>
                <path d=LEAF/>
            </g>
            <g transform="matrix(-1 0 0 1 320 0)">
                <path d=STEM/>
                <path d=LEAF/>
            </g>
        </svg>
    }
}

/// One stem, under a title.
#[component]
pub fn Tendril() -> impl IntoView {
    view! {
        <svg class="tendril" viewBox="0 4 166 30" aria-hidden="true" focusable="false">
            <g transform="matrix(-1 0 0 1 164 0)">
                <path d=STEM/>
                <path d=LEAF/>
                <path d=BUD/>
            </g>
        </svg>
    }
}
