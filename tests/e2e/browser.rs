//! A headless Chromium of its own for each test, through chromedriver.

use anyhow::{Context, Result, bail};
use serde_json::json;
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;
use thirtyfour::{ChromiumLikeCapabilities, DesiredCapabilities, LoggingPrefsLogLevel, WebDriver};

/// The window that a visitor looks through.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub width: u32,
    height: u32,
    phone: bool,
    scripts: bool,
}

pub const DESKTOP: Window = Window { width: 1280, height: 900, phone: false, scripts: true };
pub const PHONE: Window = Window { width: 390, height: 844, phone: true, scripts: true };
pub const SCRIPTLESS: Window = Window { scripts: false, ..DESKTOP };

pub struct Browser {
    pub driver: WebDriver,
    chromedriver: Child,
    _profile: TempDir,
}

impl Browser {
    pub async fn open(window: Window) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let (chromedriver, port) = chromedriver()?;
        let mut browser = Starting(Some(chromedriver));
        let driver = WebDriver::new(format!("http://127.0.0.1:{port}"), capabilities(window, &profile)?).await?;
        Ok(Self { driver, chromedriver: browser.0.take().expect("still starting"), _profile: profile })
    }

    pub async fn close(mut self) -> Result<()> {
        let closed = self.driver.clone().quit().await;
        end(&mut self.chromedriver);
        Ok(closed?)
    }
}

/// Ends chromedriver when the browser does not come up.
struct Starting(Option<Child>);

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(end);
    }
}

fn end(child: &mut Child) {
    // It may have left already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Starts chromedriver on a port of its choice, which it says on stdout.
fn chromedriver() -> Result<(Child, u16)> {
    let mut child = Command::new("chromedriver")
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("chromedriver is missing: `make test` installs it, or install Debian's chromium-driver")?;
    let said = BufReader::new(child.stdout.take().expect("piped"));
    for line in said.lines() {
        let line = line?;
        let Some((_, port)) = line.split_once("started successfully on port ") else { continue };
        return Ok((child, port.trim_end_matches('.').parse()?));
    }
    end(&mut child);
    bail!("chromedriver did not say its port")
}

fn capabilities(window: Window, profile: &TempDir) -> Result<thirtyfour::ChromeCapabilities> {
    let mut chrome = DesiredCapabilities::chrome();
    for flag in [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        &format!("--user-data-dir={}", profile.path().display()),
        &format!("--window-size={},{}", window.width, window.height),
    ] {
        chrome.add_arg(flag)?;
    }
    if window.phone {
        let metrics = json!({ "width": window.width, "height": window.height, "pixelRatio": 2.0, "touch": true, "mobile": true });
        chrome.add_experimental_option("mobileEmulation", json!({ "deviceMetrics": metrics }))?;
    }
    if !window.scripts {
        chrome.add_experimental_option("prefs", json!({ "profile.managed_default_content_settings.javascript": 2 }))?;
    }
    chrome.set_browser_log_level(LoggingPrefsLogLevel::All)?;
    Ok(chrome)
}
