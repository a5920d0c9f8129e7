//! Sets the scene of one test: a studio, a browser, and what to show when it goes wrong.

use super::{
    browser::{Browser, Window},
    page::Page,
    studio::Studio,
};
use anyhow::Result;
use futures::FutureExt;
use std::{
    future::Future,
    panic::{AssertUnwindSafe, resume_unwind},
};
use tokio::sync::Mutex;

/// One visit at a time: the model wants all cores.
static STAGE: Mutex<()> = Mutex::const_new(());

/// Plays `visit` in a fresh studio and a fresh browser. Console errors fail it even when all else went well.
pub async fn play(name: &str, window: Window, visit: impl AsyncFnOnce(&Page, &mut Studio) -> Result<()>) {
    play_in(Studio::open(), name, window, visit).await;
}

/// The same where people sign in, at a provider that asks them.
pub async fn play_where_people_sign_in(name: &str, window: Window, visit: impl AsyncFnOnce(&Page, &mut Studio) -> Result<()>) {
    play_in(Studio::open_for_people(), name, window, visit).await;
}

async fn play_in(
    studio: impl Future<Output = Result<Studio>>,
    name: &str,
    window: Window,
    visit: impl AsyncFnOnce(&Page, &mut Studio) -> Result<()>,
) {
    let _alone = STAGE.lock().await;
    let mut studio = studio.await.unwrap();
    let browser = Browser::open(window).await.unwrap();
    let page = Page::new(browser.driver.clone(), name, window, studio.url(""));
    let told = AssertUnwindSafe(visit(&page, &mut studio)).catch_unwind().await;
    if !matches!(told, Ok(Ok(()))) {
        page.describe().await;
        eprintln!("the server's last words:\n{}", studio.log());
    }
    let errors = page.console_errors().await;
    let closed = browser.close().await;
    match told {
        Err(panic) => resume_unwind(panic),
        Ok(told) => told.unwrap(),
    }
    assert!(errors.is_empty(), "the browser's console has errors:\n{}", errors.join("\n"));
    closed.unwrap();
}
