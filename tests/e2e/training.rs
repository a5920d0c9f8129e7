//! What visits to the training page have in common.

use super::page::{Page, WORK};
use anyhow::{Context, Result};

/// Names the adapter and changes some of the recipe's advanced settings.
pub async fn set_up(page: &Page, name: &str, settings: &[(&str, &str)]) -> Result<()> {
    page.fill("#train-form [name='form[name]']", name).await?;
    for (field, value) in settings {
        let field = format!("#train-form [name='form[{field}]']");
        page.unfold(&field).await?;
        page.fill(&field, value).await?;
    }
    Ok(())
}

/// How many losses the curve shows beyond its first.
pub async fn losses(page: &Page) -> Result<usize> {
    page.see("#loss-curve").await?;
    page.run(COUNT).await
}

pub async fn wait_for_losses(page: &Page, at_least: usize) -> Result<()> {
    let grown = format!("return (() => {{ {COUNT} }})() >= {at_least}");
    page.until(&grown, WORK).await.context("the loss curve does not grow")
}

pub async fn wait_for_the_end(page: &Page) -> Result<()> {
    let said = "return document.body.innerText.includes('The adapter is ready to use.')";
    page.until(said, WORK).await.context("the training does not finish")?;
    page.see("main a[href^='/files/adapters/'][href$='.safetensors']").await.map(drop)
}

const COUNT: &str = "return document.querySelector('#loss-curve path.raw')?.getAttribute('d')?.split('L').length - 1 || 0";
