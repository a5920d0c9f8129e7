//! The program under test, on a data folder and a port of its own.

use super::loopback::{
    Loopback,
    oauth::{APP_ID, APP_SECRET},
};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub struct Studio {
    /// Where it publishes.
    pub hub: Loopback,
    folder: TempDir,
    port: u16,
    /// People sign in, as in a Space that this hub shows in a frame.
    for_people: bool,
    server: Child,
}

impl Studio {
    pub async fn open() -> Result<Self> {
        Self::open_with(false).await
    }

    pub async fn open_for_people() -> Result<Self> {
        Self::open_with(true).await
    }

    async fn open_with(for_people: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let hub = Loopback::start().await;
        let server = serve(&folder, port, &hub, for_people)?;
        let mut studio = Self { hub, folder, port, for_people, server };
        let callback = studio.url("/sign-in/callback");
        studio.hub.oauth(|oauth| (oauth.asks, oauth.redirects) = (true, vec![callback]));
        studio.until_ready().await?;
        Ok(studio)
    }

    /// Under the name that people come back to from signing in; to browsers, another site than the hub.
    pub fn url(&self, path: &str) -> String {
        let name = if self.for_people { "localhost" } else { "127.0.0.1" };
        format!("http://{name}:{}{path}", self.port)
    }

    /// Pulls the plug: SIGKILL, nothing is said goodbye to.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        Ok(())
    }

    /// Starts the program again, on the same data and port.
    pub async fn restart(&mut self) -> Result<()> {
        self.server = serve(&self.folder, self.port, &self.hub, self.for_people)?;
        self.until_ready().await
    }

    /// What the server last said.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    async fn until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.server.try_wait()? {
                bail!("the server left with {status}:\n{}", self.log());
            }
            // While the model is loaded there is one page only, that says so.
            if let Ok(answer) = reqwest::get(self.url("/health")).await
                && answer.text().await.is_ok_and(|text| text.contains("\"ready\":true"))
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the server did not answer within a minute:\n{}", self.log())
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        // It may have left already.
        let _ = self.kill();
    }
}

fn serve(folder: &TempDir, port: u16, hub: &Loopback, for_people: bool) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.path().join("server.log"))?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    if for_people {
        command.env("OAUTH_CLIENT_ID", APP_ID).env("OAUTH_CLIENT_SECRET", APP_SECRET).env("OPENID_PROVIDER_URL", &hub.endpoint);
        command.env("SPACE_ID", "ada/atelier").env("ATELIER_OWNERS", "ada");
    }
    command
        .args(["serve", "--port", &port.to_string(), "--data-dir"])
        .arg(folder.path().join("data"))
        .env("HF_ENDPOINT", &hub.endpoint)
        .env("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("atelier does not start")
}
