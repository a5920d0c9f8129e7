//! What a visitor can do and see on a page.

use super::browser::Window;
use anyhow::{Context, Result, bail, ensure};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};
use thirtyfour::{By, Key, WebDriver, WebElement, prelude::ElementQueryable};

/// Time for what the page does by itself.
pub const SOON: Duration = Duration::from_secs(20);
/// Time for what the model does, on cores that others may be using too.
pub const WORK: Duration = Duration::from_secs(240);
/// A preview is on show for a tenth of a second or so.
const GLANCE: Duration = Duration::from_millis(30);

pub struct Page {
    pub driver: WebDriver,
    name: String,
    window: Window,
    base: String,
    /// What the browser said before it was asked: its log empties when read.
    log: Mutex<Vec<String>>,
}

impl Page {
    pub fn new(driver: WebDriver, name: &str, window: Window, base: String) -> Self {
        Self { driver, name: name.into(), window, base, log: Mutex::default() }
    }

    /// Opens a page and waits until it is alive.
    pub async fn open(&self, path: &str) -> Result<()> {
        self.go_to(path).await?;
        self.alive().await
    }

    /// Opens a page as the server rendered it.
    pub async fn go_to(&self, path: &str) -> Result<()> {
        self.driver.goto(format!("{}{path}", self.base)).await.with_context(|| format!("{path} does not open"))
    }

    pub async fn reload(&self) -> Result<()> {
        self.driver.refresh().await?;
        self.alive().await
    }

    /// The page's scripts have taken over, and have nothing to complain of.
    pub async fn alive(&self) -> Result<()> {
        self.find("body[data-ready]", SOON).await.context("the page does not come alive")?;
        let errors = self.console_errors().await;
        ensure!(errors.is_empty(), "the page breaks while it comes alive: {}", errors.join("\n"));
        Ok(())
    }

    pub async fn path(&self) -> Result<String> {
        Ok(self.driver.current_url().await?.path().to_owned())
    }

    /// Waits for something to be visible; a page answers soon.
    pub async fn see(&self, css: &str) -> Result<WebElement> {
        self.find(css, SOON).await
    }

    /// Waits for what the model makes.
    pub async fn wait_for(&self, css: &str) -> Result<WebElement> {
        self.find(css, WORK).await
    }

    async fn find(&self, css: &str, patience: Duration) -> Result<WebElement> {
        let query = self.driver.query(By::Css(css)).wait(patience, GLANCE).and_displayed();
        query.first().await.with_context(|| format!("{css} is not to be seen"))
    }

    pub async fn count(&self, css: &str) -> Result<usize> {
        Ok(self.driver.find_all(By::Css(css)).await?.len())
    }

    /// Waits until there are exactly so many.
    pub async fn see_count(&self, css: &str, expected: usize) -> Result<()> {
        let counted = format!("return document.querySelectorAll({}).length === {expected}", json!(css));
        let found = self.until(&counted, SOON).await;
        let count = self.count(css).await?;
        found.with_context(|| format!("there are {count} of {css}, not {expected}"))
    }

    /// Waits until the page says it.
    pub async fn read(&self, words: &str) -> Result<()> {
        let said = format!("return document.body.innerText.toLowerCase().includes({}.toLowerCase())", json!(words));
        self.until(&said, SOON).await.with_context(|| format!("the page does not say “{words}”"))
    }

    /// Waits until a script returns true.
    pub async fn until(&self, script: &str, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            // A page that is being left has no answer.
            if self.run::<bool>(script).await.unwrap_or(false) {
                return Ok(());
            }
            tokio::time::sleep(GLANCE).await;
        }
        bail!("it never comes true within {} s: {script}", patience.as_secs())
    }

    pub async fn run<T: DeserializeOwned>(&self, script: &str) -> Result<T> {
        Ok(self.driver.execute(script, Vec::new()).await?.convert()?)
    }

    /// Presses the button, or follows the link, that reads so.
    pub async fn press(&self, label: &str) -> Result<()> {
        let named = format!("(normalize-space(.)='{label}' or @aria-label='{label}')");
        // Not the header's: its links read like buttons of the pages.
        let button = By::XPath(format!("//main//*[(self::button or self::a or self::summary) and {named}]"));
        let query = self.driver.query(button).wait(SOON, GLANCE).and_displayed().and_enabled();
        let button = query.first().await.with_context(|| format!("there is no button “{label}”"))?;
        self.click(&button).await.with_context(|| format!("“{label}” cannot be pressed"))
    }

    pub async fn press_on(&self, css: &str) -> Result<()> {
        let element = self.see(css).await?;
        self.click(&element).await.with_context(|| format!("{css} cannot be pressed"))
    }

    async fn click(&self, element: &WebElement) -> Result<()> {
        let centred = "arguments[0].scrollIntoView({ block: 'center', behavior: 'instant' })";
        self.driver.execute(centred, vec![element.to_json()?]).await?;
        Ok(element.click().await?)
    }

    /// Types into a field, in the place of what it held.
    pub async fn fill(&self, css: &str, text: &str) -> Result<()> {
        let field = self.see(css).await?;
        // As a person would: clearing it first would be a change of its own, to nothing.
        Ok(field.send_keys(Key::Control + "a" + Key::Null + text).await?)
    }

    /// Moves a slider to a value. The one over a pair of pictures is not to be seen itself.
    pub async fn slide(&self, css: &str, value: u32) -> Result<()> {
        let slider = self.driver.query(By::Css(css)).wait(SOON, GLANCE).first().await.with_context(|| format!("there is no {css}"))?;
        let moved = "arguments[0].value = arguments[1];
            for (const event of ['input', 'change']) arguments[0].dispatchEvent(new Event(event, { bubbles: true }))";
        self.driver.execute(moved, vec![slider.to_json()?, json!(value)]).await?;
        Ok(())
    }

    /// Takes an option by what it reads or stands for.
    pub async fn choose(&self, css: &str, option: &str) -> Result<()> {
        let field = self.see(css).await?;
        let named = format!(".//option[@value='{option}' or contains(normalize-space(.), '{option}')]");
        let option = field.find(By::XPath(named)).await.with_context(|| format!("{css} has no option “{option}”"))?;
        Ok(option.click().await?)
    }

    /// Opens the fold whose content holds `css`, when it is closed.
    pub async fn unfold(&self, css: &str) -> Result<()> {
        let held = format!("document.querySelector({})?.closest('details')", json!(css));
        self.until(&format!("return !!{held}"), SOON).await?;
        if !self.run::<bool>(&format!("return {held}.open")).await? {
            let summary = self.driver.execute(format!("return {held}.querySelector('summary')"), Vec::new()).await?.element()?;
            self.click(&summary).await?;
        }
        self.see(css).await.map(drop)
    }

    pub async fn value(&self, css: &str) -> Result<String> {
        self.see(css).await?.value().await?.with_context(|| format!("{css} has no value"))
    }

    pub async fn attribute(&self, css: &str, name: &str) -> Result<String> {
        self.see(css).await?.attr(name.to_owned()).await?.with_context(|| format!("{css} has no {name}"))
    }

    /// Gives files to a file field, which may be hidden behind a drop zone.
    pub async fn attach(&self, css: &str, files: &[PathBuf]) -> Result<()> {
        let field = self.driver.query(By::Css(css)).wait(SOON, GLANCE).first().await?;
        let paths: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        Ok(field.send_keys(paths.join("\n")).await?)
    }

    /// Every picture that matches has arrived and is more than a placeholder.
    pub async fn pictures_are_there(&self, css: &str) -> Result<()> {
        // A lazy picture loads when it comes into view.
        let loaded = format!(
            "const all = [...document.querySelectorAll({})];
             all.forEach(picture => picture.loading = 'eager');
             return all.length > 0 && all.every(picture => picture.complete && picture.naturalWidth > 8)",
            json!(css)
        );
        self.until(&loaded, SOON).await.with_context(|| format!("pictures {css} do not load"))
    }

    /// Light or dark, and nothing that moves: an audit in mid-fade would measure a colour that nobody sees.
    pub async fn appear(&self, scheme: &str) -> Result<()> {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.driver.cdp().send_raw("Emulation.setEmulatedMedia", json!({ "features": features })).await?;
        Ok(())
    }

    /// A phone's page scrolls down, never sideways.
    pub async fn fits(&self) -> Result<()> {
        let script = "
            const width = document.documentElement.clientWidth;
            const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1);
            return document.documentElement.scrollWidth <= width ? [] : wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120))";
        let wide: Vec<String> = self.run(script).await?;
        ensure!(wide.is_empty(), "{} is wider than {} px:\n{}", self.path().await?, self.window.width, wide.join("\n"));
        Ok(())
    }

    /// A picture of the whole page in `target/screenshots`.
    pub async fn photograph(&self, name: &str) -> Result<()> {
        let metrics = self.driver.cdp().send_raw("Page.getLayoutMetrics", json!({})).await?;
        let clip = json!({
            "x": 0, "y": 0, "scale": 1,
            "width": metrics["cssContentSize"]["width"],
            "height": metrics["cssContentSize"]["height"],
        });
        let wanted = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let shot = self.driver.cdp().send_raw("Page.captureScreenshot", wanted).await?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/screenshots");
        fs::create_dir_all(&folder)?;
        let data = shot["data"].as_str().context("no picture of the page")?;
        fs::write(folder.join(format!("{name}-{}.png", self.window.width)), BASE64_STANDARD.decode(data)?)?;
        Ok(())
    }

    /// Errors in the browser's console so far, refused requests among them.
    pub async fn console_errors(&self) -> Vec<String> {
        let entries = self.driver.browser_log().await.unwrap_or_default();
        let severe = entries.into_iter().filter(|entry| entry.level == "SEVERE").map(|entry| entry.message);
        let mut log = self.log.lock().unwrap();
        log.extend(severe);
        log.clone()
    }

    /// Forgets what the console said: a server that was killed on purpose leaves errors behind.
    pub async fn forgive(&self) {
        self.console_errors().await;
        self.log.lock().unwrap().clear();
    }

    /// Where the visit stands, for whoever reads the failure.
    pub async fn describe(&self) {
        let url = self.driver.current_url().await.map(|url| url.to_string()).unwrap_or_default();
        let text: Value = self.run("return document.body.innerText.slice(0, 1500)").await.unwrap_or_default();
        eprintln!("{} stopped at {url}, which reads:\n{}", self.name, text.as_str().unwrap_or_default());
        match self.photograph(&format!("failed-{}", self.name)).await {
            Ok(()) => eprintln!("it looks like target/screenshots/failed-{}-{}.png", self.name, self.window.width),
            Err(error) => eprintln!("no picture of it: {error:#}"),
        }
        eprintln!("the console: {:?}", self.console_errors().await);
    }
}
