//! The document, the frame around every page, and the routes.

use crate::components::{AccountMenu, ActiveRuns, Icon, ThemeToggle, icon, provide_account, theme_script};
use crate::pages::{AdaptersPage, ComparePage, GalleryPage, GeneratePage, NotFound, PublishPage, SignInPage, TrainPage, TrainingPage};
use leptos::prelude::*;
use leptos_meta::{MetaTags, Stylesheet, Title, provide_meta_context};
use leptos_router::{
    SsrMode,
    components::{A, Route, Router, Routes},
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
                <meta name="color-scheme" content="light dark"/>
                <meta name="theme-color" media="(prefers-color-scheme: light)" content="#f7f1e4"/>
                <meta name="theme-color" media="(prefers-color-scheme: dark)" content="#181410"/>
                <meta name="description" content="Generate pictures, teach a painting style to FLUX.1, and compare."/>
                <link rel="icon" href="/icons/atelier.svg" type="image/svg+xml"/>
                <link rel="apple-touch-icon" href="/icons/touch.png"/>
                <link rel="preload" href="/fonts/federo-400.woff2" r#as="font" type="font/woff2" crossorigin="anonymous"/>
                <link rel="preload" href="/fonts/alegreya-sans-400.woff2" r#as="font" type="font/woff2" crossorigin="anonymous"/>
                <script inner_html=theme_script()></script>
                <HydrationScripts options/>
                <MetaTags/>
            </head>
            <body>
                <App/>
            </body>
        </html>
    }
    .into_any()
}

/// The frame and the routes. Pages are rendered whole (`SsrMode::Async`): without scripts there is nobody to fill in late parts.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    provide_account();
    Effect::new(|_| say_ready());
    view! {
        <Stylesheet href="/pkg/atelier.css"/>
        <Title text="Atelier"/>
        <Router>
            <a class="skip-link" href="#main">"Skip to the page"</a>
            <Header/>
            <main id="main" tabindex="-1">
                <Routes fallback=NotFound>
                    <Route path=path!("/") ssr=SsrMode::Async view=GeneratePage/>
                    <Route path=path!("/compare") ssr=SsrMode::Async view=ComparePage/>
                    <Route path=path!("/train") ssr=SsrMode::Async view=TrainPage/>
                    <Route path=path!("/train/:run") ssr=SsrMode::Async view=TrainingPage/>
                    <Route path=path!("/adapters") ssr=SsrMode::Async view=AdaptersPage/>
                    <Route path=path!("/adapters/:adapter/publish") ssr=SsrMode::Async view=PublishPage/>
                    <Route path=path!("/sign-in") ssr=SsrMode::Async view=SignInPage/>
                    <Route path=path!("/gallery") ssr=SsrMode::Async view=GalleryPage/>
                </Routes>
            </main>
        </Router>
    }
    .into_any()
}

#[component]
fn Header() -> impl IntoView {
    view! {
        <header class="site-header">
            <a class="wordmark" href="/">
                <svg viewBox="0 0 32 32" width="30" height="30" aria-hidden="true" focusable="false">
                    <path d="M16 3c5 6 5 12 0 17-5-5-5-11 0-17z"/>
                    <path d="M16 20v9M16 25c-8 1-13-4-12-11 6 0 10 3 12 11zM16 25c8 1 13-4 12-11-6 0-10 3-12 11z"/>
                </svg>
                "Atelier"
            </a>
            <nav class="site-nav" aria-label="Pages">
                <NavLink href="/" exact=true path=icon::BRUSH label="Generate"/>
                <NavLink href="/compare" path=icon::COLUMNS label="Compare"/>
                <NavLink href="/train" path=icon::PALETTE label="Train"/>
                <NavLink href="/adapters" path=icon::RIBBON label="Adapters"/>
                <NavLink href="/gallery" path=icon::FRAMES label="Gallery"/>
            </nav>
            <div class="site-tools">
                <ActiveRuns/>
                <ThemeToggle/>
                <AccountMenu/>
            </div>
        </header>
    }
    .into_any()
}

#[component]
fn NavLink(href: &'static str, path: &'static str, label: &'static str, #[prop(optional)] exact: bool) -> impl IntoView {
    view! {
        <A href=href exact=exact>
            <Icon path=path/>
            <span>{label}</span>
        </A>
    }
}

/// Tells tests, and whoever else waits for it, that the page is alive.
fn say_ready() {
    #[cfg(feature = "hydrate")]
    if let Some(body) = document().body() {
        _ = body.set_attribute("data-ready", "");
    }
}
