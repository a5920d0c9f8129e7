//! The program under test, on a data folder and a port of its own.

use super::loopback::Loopback;
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
    server: Child,
}

impl Studio {
    pub async fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let hub = Loopback::start().await;
        let server = serve(&folder, port, &hub)?;
        let mut studio = Self { hub, folder, port, server };
        studio.until_ready().await?;
        Ok(studio)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Pulls the plug: SIGKILL, nothing is said goodbye to.
    pub fn kill(&mut self) -> Result<()> {
        self.server.kill()?;
        self.server.wait()?;
        Ok(())
    }

    /// Starts the program again, on the same data and port.
    pub async fn restart(&mut self) -> Result<()> {
        self.server = serve(&self.folder, self.port, &self.hub)?;
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

fn serve(folder: &TempDir, port: u16, hub: &Loopback) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.path().join("server.log"))?;
    Command::new(env!("CARGO_BIN_EXE_atelier"))
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
