//! Signing in, as a person does it: at the provider and back, on a phone, without scripts, and in a frame of another site's page.

use super::{
    audit::look_at,
    browser::{DESKTOP, PHONE, SCRIPTLESS},
    page::Page,
    stage::play_where_people_sign_in,
    studio::Studio,
};
use anyhow::{Context, Result, ensure};
use std::time::Duration;

const ACCOUNT: &str = "details.account";

/// From the header to the provider, which asks, and back.
async fn sign_in(page: &Page) -> Result<()> {
    page.press_on(".site-tools a.button").await?;
    page.press_on("#agree").await?;
    page.see(ACCOUNT).await.map(drop)
}

async fn visit(page: &Page, _: &mut Studio) -> Result<()> {
    page.open("/gallery").await?;
    look_at(page, "sign-in-stranger").await?;
    // What a stranger tries is told, in place.
    page.open("/").await?;
    page.fill("#generate-form [name='form[prompt]']", "a red bird on a branch").await?;
    page.press("Generate").await?;
    page.read("Sign in first").await?;
    page.forgive().await;

    page.open("/gallery").await?;
    sign_in(page).await?;
    page.alive().await?;
    ensure!(page.path().await? == "/gallery", "back to {}", page.path().await?);
    page.press_on("details.account > summary").await?;
    page.read("Ada Lovelace").await?;
    look_at(page, "sign-in-account").await?;
    page.open("/").await?;
    page.fill("#generate-form [name='form[prompt]']", "a red bird on a branch").await?;
    page.press("Generate").await?;
    page.wait_for("img.result").await?;
    page.open("/sign-in").await?;
    look_at(page, "sign-in-permissions").await?;

    page.open("/gallery").await?;
    page.see_count(".picture-card", 1).await?;
    page.press_on("details.account > summary").await?;
    page.press_on("form[action='/sign-out'] button").await?;
    page.see_count(ACCOUNT, 0).await?;
    page.open("/gallery").await?;
    page.see_count(".picture-card", 0).await
}

#[tokio::test]
async fn a_person_signs_in_makes_a_picture_and_signs_out() {
    play_where_people_sign_in("sign-in-desktop", DESKTOP, visit).await;
}

#[tokio::test]
async fn the_same_on_a_phone() {
    play_where_people_sign_in("sign-in-phone", PHONE, visit).await;
}

#[tokio::test]
async fn people_sign_in_without_scripts_and_hear_why_it_failed() {
    play_where_people_sign_in("sign-in-scriptless", SCRIPTLESS, async |page, studio| {
        page.go_to("/adapters").await?;
        page.press_on(".site-tools a.button").await?;
        page.press_on("#refuse").await?;
        page.read("You did not agree over there").await?;
        page.photograph("sign-in-refused").await?;
        page.press("Sign in with Hugging Face").await?;
        page.press_on("#agree").await?;
        page.see(ACCOUNT).await?;
        ensure!(page.path().await? == "/adapters", "back to {}", page.path().await?);
        studio.hub.oauth(|oauth| oauth.granted = Some("openid profile"));
        page.go_to("/sign-in/start?then=/sign-in").await?;
        page.press_on("#agree").await?;
        page.read("contribute-repos is missing").await?;
        page.photograph("sign-in-missing").await
    })
    .await;
}

#[tokio::test]
async fn a_frame_is_signed_in_from_a_tab_of_its_own() {
    play_where_people_sign_in("sign-in-frame", DESKTOP, async |page, studio| {
        // The code comes by itself; or, where the provider's page has cut the tab off from its opener, it is typed.
        for isolated in [false, true] {
            studio.hub.oauth(|oauth| oauth.isolated = isolated);
            framed(page, studio, isolated).await.with_context(|| format!("isolated: {isolated}"))?;
        }
        Ok(())
    })
    .await;
}

async fn framed(page: &Page, studio: &Studio, typed: bool) -> Result<()> {
    let driver = &page.driver;
    let around = format!("{}/frame?address={}", studio.hub.endpoint, studio.url("/gallery"));
    driver.goto(around.as_str()).await?;
    driver.enter_frame(0).await?;
    page.press_on(".site-tools a.button").await?;
    page.see("#code-form").await?;
    // The page's scripts listen before the tab can speak.
    page.see("body[data-ready]").await?;
    driver.enter_default_frame().await?;
    page.photograph(if typed { "sign-in-frame-again" } else { "sign-in-frame" }).await?;
    driver.enter_frame(0).await?;
    let opener = driver.window().await?;
    page.press("Sign in with Hugging Face").await?;
    let tab = another_window(page, &opener).await?;
    driver.switch_to_window(tab).await?;
    page.press_on("#agree").await?;
    let code = page.see("#handover-code").await?.text().await?;
    // It speaks once it is alive.
    page.see("body[data-ready]").await?;
    page.photograph("sign-in-code").await?;
    driver.close_window().await?;
    driver.switch_to_window(opener).await?;
    driver.enter_default_frame().await?;
    driver.enter_frame(0).await?;
    if typed {
        page.fill("#code", code.trim()).await?;
        page.press("Go on").await?;
    }
    page.see(ACCOUNT).await.context("the frame is not signed in")?;
    // The frame's own cookie holds when the page around it is opened anew.
    driver.goto(around.as_str()).await?;
    driver.enter_frame(0).await?;
    page.see(ACCOUNT).await.context("the frame forgot who it was")?;
    page.press_on("details.account > summary").await?;
    page.press_on("form[action='/sign-out'] button").await?;
    page.see_count(ACCOUNT, 0).await?;
    driver.enter_default_frame().await?;
    Ok(())
}

async fn another_window(page: &Page, opener: &thirtyfour::WindowHandle) -> Result<thirtyfour::WindowHandle> {
    for _ in 0..200 {
        if let Some(tab) = page.driver.windows().await?.into_iter().rev().find(|window| window != opener) {
            return Ok(tab);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no tab was opened")
}
