//! A power cut in the middle of a training: the page finds its way back, the training goes on from its checkpoint.

use super::{browser::DESKTOP, page::Page, stage::play};
use anyhow::{Result, ensure};

#[tokio::test]
async fn a_training_survives_a_power_cut() {
    play("power-cut", DESKTOP, async |page, studio| {
        start_training(page).await?;
        page.wait_for(".sample img").await?;
        let drawn_before = points(page).await?;
        studio.kill()?;
        studio.restart().await?;
        page.forgive().await;
        // Nobody touches the page: it connects again by itself.
        page.wait_for("a[href^='/files/adapters/'][href$='.safetensors']").await?;
        page.reload().await?;
        page.read("done").await?;
        ensure!(points(page).await? >= drawn_before, "losses from before the cut are gone");
        page.pictures_are_there(".sample img").await?;
        page.forgive().await;
        Ok(())
    })
    .await;
}

async fn start_training(page: &Page) -> Result<()> {
    page.open("/train").await?;
    page.press_on("form[action*='use_sample_set']:has([value='impressionist']) button").await?;
    page.see_count(".dataset-item", 14).await?;
    page.fill("#train-form [name='form[name]']", "Survivor").await?;
    for (field, value) in [("steps", "40"), ("resolution", "128x128"), ("checkpoint_every", "10")] {
        let field = format!("#train-form [name='form[{field}]']");
        page.unfold(&field).await?;
        page.fill(&field, value).await?;
    }
    page.press("Start training").await
}

/// How long the drawn loss curve is.
async fn points(page: &Page) -> Result<usize> {
    page.see("#loss-curve path").await?;
    page.run("return document.querySelector('#loss-curve path').getAttribute('d').split(/[ML]/).length - 1").await
}
