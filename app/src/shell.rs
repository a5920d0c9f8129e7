//! The document, the frame around every page, and the routes.

use leptos::prelude::*;
use leptos_meta::{Title, provide_meta_context};
use leptos_router::{
    SsrMode,
    components::{Route, Router, Routes},
    path,
};

/// The HTML document around [`App`].
pub fn shell(options: LeptosOptions) -> impl IntoView {
    view! {
        <!DOCTYPE html>
        <html lang="en">
            <head>
                <meta charset="utf-8"/>
                <meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover"/>
                <HydrationScripts options/>
                <leptos_meta::MetaTags/>
            </head>
            <body>
                <App/>
            </body>
        </html>
    }
}

/// The frame and the routes. Pages are rendered whole (`SsrMode::Async`): without scripts there is nobody to fill in late parts.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    view! {
        <Title formatter=|page: String| if page.is_empty() { "Atelier".to_owned() } else { format!("{page} · Atelier") }/>
        <Router>
            <main id="main">
                <Routes fallback=|| "Nothing here.">
                    <Route path=path!("/") ssr=SsrMode::Async view=|| view! { <h1>"Atelier"</h1> }/>
                </Routes>
            </main>
        </Router>
    }
}
