//! The main act, at a desk and on a phone: paint, teach a style, compare, take it home.

use super::{
    audit,
    browser::{DESKTOP, PHONE, Window},
    loopback::WRITER,
    page::{Page, SOON},
    stage::play,
    studio::Studio,
    training,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

#[tokio::test]
async fn the_whole_story_at_a_desk() {
    whole_story("desk", DESKTOP).await;
}

#[tokio::test]
async fn the_whole_story_on_a_phone() {
    whole_story("phone", PHONE).await;
}

async fn whole_story(name: &str, window: Window) {
    play(name, window, async |page, studio| {
        paint(page).await.context("painting")?;
        caption(page).await.context("captions")?;
        teach(page).await.context("training")?;
        take_home(page, studio).await.context("download")?;
        compare(page).await.context("comparing")?;
        share(page, studio).await.context("publishing")?;
        paint_in_the_style(page).await.context("painting in the new style")?;
        tidy_up(page).await.context("gallery")
    })
    .await;
}

/// A prompt, a picture that appears bit by bit, and what it was made from.
async fn paint(page: &Page) -> Result<()> {
    page.open("/").await?;
    audit::look_at(page, "generate").await?;
    page.fill("#generate-form [name='form[prompt]']", "a lighthouse on a cliff by the sea").await?;
    page.unfold("#generate-form [name='form[steps]']").await?;
    // Enough of them for a look at the preview.
    page.slide("#generate-form [name='form[steps]']", 40).await?;
    page.fill("#generate-form [name='form[seed]']", "7").await?;
    page.press("Generate").await?;
    page.see("main progress").await?;
    page.wait_for("img.preview").await?;
    page.wait_for("img.result").await?;
    page.pictures_are_there("img.result").await?;
    page.read("lighthouse").await?;
    audit::look_at(page, "generate-done").await
}

/// A sample set is copied into the studio; its captions are the visitor's to change.
async fn caption(page: &Page) -> Result<()> {
    page.open("/train").await?;
    audit::look_at(page, "train").await?;
    page.press("Use Impressionist").await?;
    page.see_count(".dataset-item", 14).await?;
    page.pictures_are_there(".dataset-item img").await?;
    let caption = ".dataset-item textarea";
    ensure!(page.value(caption).await?.ends_with(", impressionist painting"), "the set brings its captions along");
    page.fill(caption, "a sailboat at dusk, impressionist painting").await?;
    // Leaving the field saves it.
    page.run::<()>("document.activeElement.blur()").await?;
    page.read("saved").await?;
    page.reload().await?;
    page.see_count(".dataset-item", 14).await?;
    ensure!(page.value(caption).await? == "a sailboat at dusk, impressionist painting", "the caption was not kept");
    Ok(())
}

/// A short training on small pictures: its losses, its samples, a stop, a reload, and on to the end.
async fn teach(page: &Page) -> Result<()> {
    training::set_up(page, "Dusk", &[("steps", "40"), ("resolution", "128x128"), ("checkpoint_every", "10"), ("rank", "4")]).await?;
    audit::look_at(page, "train-set").await?;
    page.press("Start training").await?;
    training::wait_for_losses(page, 3).await?;
    page.see("main progress").await?;
    page.reload().await?;
    ensure!(training::losses(page).await? >= 3, "the reload lost the losses");
    page.wait_for(".sample img").await?;
    page.press("Stop").await?;
    page.read("Stopped.").await?;
    page.press("Resume").await?;
    training::wait_for_the_end(page).await?;
    training::wait_for_losses(page, 39).await?;
    page.pictures_are_there(".sample img").await?;
    audit::look_at(page, "training").await
}

/// The file on the Adapters page is one that other programs read.
async fn take_home(page: &Page, studio: &Studio) -> Result<()> {
    page.open("/adapters").await?;
    page.see_count(".adapter-card", 1).await?;
    page.read("Dusk").await?;
    audit::look_at(page, "adapters").await?;
    let link = page.attribute(".adapter-card a[href$='.safetensors']", "href").await?;
    let answer = reqwest::get(studio.url(&link)).await?.error_for_status()?;
    let disposition = answer.headers()["content-disposition"].to_str()?.to_owned();
    ensure!(disposition.starts_with("attachment") && disposition.contains(".safetensors"), "{disposition}");
    let file = answer.bytes().await?;
    let length = u64::from_le_bytes(file[..8].try_into()?) as usize;
    let header: Value = serde_json::from_slice(file.get(8..8 + length).context("the header is cut off")?)?;
    let keys: Vec<&String> = header.as_object().context("the header is no object")?.keys().filter(|key| *key != "__metadata__").collect();
    let ours = |key: &&String| key.starts_with("transformer.") && (key.ends_with(".lora_A.weight") || key.ends_with(".lora_B.weight"));
    ensure!(!keys.is_empty() && keys.iter().all(ours), "these are not the names that diffusers reads: {keys:?}");
    Ok(())
}

/// Base and adapter on the same seed: the slider, side by side, and without knowing which is which.
async fn compare(page: &Page) -> Result<()> {
    page.open("/compare").await?;
    audit::look_at(page, "compare").await?;
    page.choose("#compare-form [name='form[adapter]']", "Dusk").await?;
    page.fill("#compare-form [name='form[prompt]']", "a lake with mountains, impressionist painting").await?;
    page.unfold("#compare-form [name='form[seed]']").await?;
    page.slide("#compare-form [name='form[steps]']", 8).await?;
    page.fill("#compare-form [name='form[seed]']", "11").await?;
    page.press("Compare").await?;
    page.wait_for(".before-after").await?;
    page.pictures_are_there(".before-after img").await?;
    page.slide(".before-after input[type='range']", 25).await?;
    audit::look_at(page, "compare-slider").await?;
    page.press("Side by side").await?;
    page.see_count(".comparison-grid img.result", 2).await?;
    page.pictures_are_there(".comparison-grid img.result").await?;
    let drawn: Vec<String> =
        page.run("return [...document.querySelectorAll('.comparison-grid img.result')].map(picture => picture.src)").await?;
    ensure!(drawn[0] != drawn[1], "base and adapter are one picture");
    audit::look_at(page, "compare-side-by-side").await?;
    page.press("Blind round").await?;
    page.press("First is better").await?;
    page.read("You preferred:").await?;
    audit::look_at(page, "compare-blind").await
}

/// The card as it will look, then the adapter on a hub, with the pair that was compared.
async fn share(page: &Page, studio: &Studio) -> Result<()> {
    page.open("/adapters").await?;
    page.press("Publish").await?;
    page.see("#publish-form").await?;
    page.fill("#rights", "Drawn by a program.").await?;
    page.press("Show the card").await?;
    // By scripts: the page before has the same elements.
    let shown = "return location.search.includes('reviewed=1') && !!document.querySelector('body[data-ready] .card-text')";
    page.until(shown, SOON).await.context("the card is not shown")?;
    page.alive().await?;
    ensure!(page.count(".findings .blocks").await? == 0, "something blocks it");
    page.pictures_are_there(".card-text img").await?;
    audit::look_at(page, "publish").await?;
    page.fill("#publish-token", WRITER).await?;
    page.press("Publish").await?;
    page.until("return !!document.querySelector('#published a') && !!document.querySelector('.published-list a')", SOON).await?;
    page.alive().await?;
    audit::look_at(page, "publish-done").await?;
    ensure!(!page.driver.current_url().await?.as_str().contains(WRITER), "the token is in the address");
    let files = studio.hub.files("ada/dusk").context("nothing is there")?;
    ensure!(files.contains_key("images/01.png") && files.contains_key("images/01-base.png"), "{:?}", files.keys());
    Ok(())
}

/// From the adapter's card to a picture that names it in its recipe.
async fn paint_in_the_style(page: &Page) -> Result<()> {
    page.open("/adapters").await?;
    page.press("Generate with it").await?;
    page.fill("#generate-form [name='form[prompt]']", "three haystacks, impressionist painting").await?;
    page.unfold("#generate-form [name='form[steps]']").await?;
    page.slide("#generate-form [name='form[steps]']", 8).await?;
    page.press("Generate").await?;
    page.wait_for("img.result").await?;
    page.read("Dusk × 1").await
}

/// Everything painted is in the gallery, with its recipe; what is deleted is gone.
async fn tidy_up(page: &Page) -> Result<()> {
    page.open("/gallery").await?;
    page.see(".picture-card").await?;
    page.pictures_are_there(".picture-card img").await?;
    audit::look_at(page, "gallery").await?;
    let before = page.count(".picture-card").await?;
    ensure!(before >= 2, "only {before} pictures in the gallery");
    page.press_on(".picture-card").await?;
    page.see("dialog[open] img.result").await?;
    audit::look_at(page, "gallery-picture").await?;
    page.press("Reuse").await?;
    page.until("return document.querySelector('#prompt')?.value.includes('haystacks')", SOON).await.context("the recipe is not reused")?;
    page.open("/gallery").await?;
    page.press_on(".picture-card").await?;
    page.press("Delete").await?;
    page.press("Delete this picture").await?;
    page.see_count(".picture-card", before - 1).await
}
