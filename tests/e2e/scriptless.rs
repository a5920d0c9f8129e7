//! Without scripts: every page reads, and forms make pictures all the same.

use super::{browser::SCRIPTLESS, page::Page, stage::play};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

#[tokio::test]
async fn pages_work_without_scripts() {
    play("scriptless", SCRIPTLESS, async |page, _| {
        for path in ["/compare", "/train", "/adapters", "/gallery", "/"] {
            page.go_to(path).await?;
            page.see("main h1").await.with_context(|| path.to_owned())?;
        }
        ensure!(page.count("body[data-ready]").await? == 0, "scripts are running");
        page.fill("#generate-form [name='form[prompt]']", "a red bird on a branch").await?;
        page.press("Generate").await?;
        ensure!(page.path().await? == "/", "the form leads to {}", page.path().await?);
        until_painted(page).await?;
        page.photograph("scriptless-done").await?;
        page.go_to("/train").await?;
        page.press("Use Mucha").await?;
        page.see("#train-form").await?;
        ensure!(page.count(".dataset-item").await? == 14, "the set is not shown");
        page.photograph("scriptless-train").await
    })
    .await;
}

/// The page of a run renews itself; nobody has to press reload.
async fn until_painted(page: &Page) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while page.count("img.result").await.unwrap_or(0) == 0 {
        ensure!(Instant::now() < deadline, "no picture within two minutes");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
