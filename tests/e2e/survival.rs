//! A power cut in the middle of a training: the page finds its way back, the training goes on from its checkpoint.

use super::{browser::DESKTOP, stage::play, training};
use anyhow::ensure;

#[tokio::test]
async fn a_training_survives_a_power_cut() {
    play("power-cut", DESKTOP, async |page, studio| {
        page.open("/train").await?;
        page.press("Use Impressionist").await?;
        training::set_up(page, "Survivor", &[("steps", "60"), ("resolution", "128x128"), ("checkpoint_every", "10")]).await?;
        page.press("Start training").await?;
        training::wait_for_losses(page, 12).await?;
        studio.kill()?;
        studio.restart().await?;
        // Nobody touches the page: it connects again by itself.
        training::wait_for_the_end(page).await?;
        // While the server was away, the browser noted every attempt.
        page.forgive().await;
        page.reload().await?;
        ensure!(training::losses(page).await? == 59, "losses from before the cut are gone, or doubled");
        page.pictures_are_there(".sample img").await?;
        Ok(())
    })
    .await;
}
