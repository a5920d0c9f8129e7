//! A picture without touching the mouse.

use super::{browser::DESKTOP, page::Page, stage::play};
use anyhow::{Result, bail};
use thirtyfour::{Key, TypingData};

#[tokio::test]
async fn the_keyboard_is_enough() {
    play("keyboard", DESKTOP, async |page, _| {
        page.open("/").await?;
        tab_to(page, "document.activeElement.name === 'form[prompt]'").await?;
        press(page, "a cat on a chair").await?;
        tab_to(page, "document.activeElement.matches('button') && document.activeElement.innerText.trim() === 'Generate'").await?;
        press(page, Key::Enter).await?;
        page.wait_for("img.result").await?;
        Ok(())
    })
    .await;
}

/// Goes on by Tab until it holds, as a person would who sees where the focus is: it has to be visible at every stop.
async fn tab_to(page: &Page, there: &str) -> Result<()> {
    for _ in 0..40 {
        press(page, Key::Tab).await?;
        let visible = "
            const { outlineStyle, boxShadow, borderColor } = getComputedStyle(document.activeElement);
            return document.activeElement === document.body || outlineStyle !== 'none' || boxShadow !== 'none'";
        if !page.run::<bool>(visible).await? {
            let focused: String = page.run("return document.activeElement.outerHTML.slice(0, 200)").await?;
            bail!("nobody sees that this has the focus: {focused}");
        }
        if page.run::<bool>(&format!("return {there}")).await? {
            return Ok(());
        }
    }
    bail!("Tab never gets there: {there}")
}

async fn press(page: &Page, keys: impl Into<TypingData>) -> Result<()> {
    Ok(page.driver.action_chain().send_keys(keys).perform().await?)
}
