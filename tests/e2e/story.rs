//! The main act, at a desk and on a phone: paint, teach a style, compare, take it home.

use super::{
    audit,
    browser::{DESKTOP, PHONE, Window},
    page::Page,
    stage::play,
    studio::Studio,
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
    page.fill("#generate-form [name='form[steps]']", "24").await?;
    page.fill("#generate-form [name='form[seed]']", "7").await?;
    page.press("Generate").await?;
    page.see("progress").await?;
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
    page.press_on("form[action*='use_sample_set']:has([value='impressionist']) button").await?;
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
    page.fill("#train-form [name='form[name]']", "Dusk").await?;
    for (field, value) in [("steps", "30"), ("resolution", "128x128"), ("checkpoint_every", "10"), ("rank", "4")] {
        let field = format!("#train-form [name='form[{field}]']");
        page.unfold(&field).await?;
        page.fill(&field, value).await?;
    }
    audit::look_at(page, "train-set").await?;
    page.press("Start training").await?;
    page.wait_for("#loss-curve path").await?;
    page.see("progress").await?;
    page.reload().await?;
    page.wait_for(".sample img").await?;
    page.press("Stop").await?;
    page.read("stopped").await?;
    page.press("Resume").await?;
    page.wait_for("a[href^='/files/adapters/'][href$='.safetensors']").await?;
    page.read("done").await?;
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

/// Base and adapter on the same seed: the slider, then side by side.
async fn compare(page: &Page) -> Result<()> {
    page.open("/compare").await?;
    audit::look_at(page, "compare").await?;
    page.choose("#compare-form [name='form[adapter]']", "Dusk").await?;
    page.fill("#compare-form [name='form[prompt]']", "a lake with mountains, impressionist painting").await?;
    page.unfold("#compare-form [name='form[seed]']").await?;
    page.fill("#compare-form [name='form[seed]']", "11").await?;
    page.fill("#compare-form [name='form[steps]']", "8").await?;
    page.press("Compare").await?;
    page.wait_for("input[type='range'].slider, .slider input[type='range']").await?;
    page.pictures_are_there(".slider img").await?;
    audit::look_at(page, "compare-slider").await?;
    page.press("Side by side").await?;
    page.wait_for(".side-by-side img").await?;
    page.pictures_are_there(".side-by-side img").await?;
    let pictures: Vec<String> = page.run("return [...document.querySelectorAll('.side-by-side img')].map(picture => picture.src)").await?;
    ensure!(pictures.len() >= 2 && pictures[0] != pictures[1], "base and adapter show the same picture: {pictures:?}");
    audit::look_at(page, "compare-side-by-side").await
}

/// From the adapter's card to a picture that names it in its recipe.
async fn paint_in_the_style(page: &Page) -> Result<()> {
    page.open("/adapters").await?;
    page.press_on(".adapter-card a[href^='/?']").await?;
    page.alive().await?;
    page.fill("#generate-form [name='form[prompt]']", "three haystacks, impressionist painting").await?;
    page.unfold("#generate-form [name='form[steps]']").await?;
    page.fill("#generate-form [name='form[steps]']", "8").await?;
    page.press("Generate").await?;
    page.wait_for("img.result").await?;
    page.read("Dusk").await
}

/// Everything painted is in the gallery, with its recipe; what is deleted is gone.
async fn tidy_up(page: &Page) -> Result<()> {
    page.open("/gallery").await?;
    page.see(".picture-card").await?;
    page.pictures_are_there(".picture-card img").await?;
    audit::look_at(page, "gallery").await?;
    let before = page.count(".picture-card").await?;
    ensure!(before >= 2, "only {before} pictures in the gallery");
    page.press_on(".picture-card a[href^='/?']").await?;
    page.alive().await?;
    ensure!(page.value("#generate-form [name='form[prompt]']").await?.contains("haystacks"), "the recipe is not reused");
    page.open("/gallery").await?;
    page.press_on(".picture-card form[action*='delete_picture'] button").await?;
    page.see_count(".picture-card", before - 1).await
}
