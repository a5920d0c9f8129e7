//! Can everybody use the page? axe-core asks, on every page, light and dark.

use super::page::Page;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::fs;

const AXE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node_modules/axe-core/axe.min.js");

#[derive(Debug, Deserialize)]
struct Violation {
    id: String,
    impact: Option<String>,
    help: String,
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    html: String,
    #[serde(rename = "failureSummary")]
    summary: Option<String>,
}

/// Looks at the open page in both schemes: a photograph, no sideways scrolling, and no serious finding of axe's.
pub async fn look_at(page: &Page, name: &str) -> Result<()> {
    for scheme in ["light", "dark"] {
        page.appear(scheme).await?;
        page.photograph(&format!("{name}-{scheme}")).await?;
        page.fits().await?;
        usable(page).await.with_context(|| format!("{name}, {scheme}"))?;
    }
    page.appear("light").await
}

async fn usable(page: &Page) -> Result<()> {
    let axe = fs::read_to_string(AXE).context("axe-core is missing: `make test` installs it")?;
    page.driver.execute(axe, Vec::new()).await?;
    let script = "const done = arguments[arguments.length - 1];
        axe.run(document, { resultTypes: ['violations'] }).then(found => done(found.violations), error => done(String(error)))";
    let found = page.driver.execute_async(script, Vec::new()).await?;
    let violations: Vec<Violation> = found.convert().with_context(|| format!("axe: {}", found.json()))?;
    let serious: Vec<String> = violations.iter().filter(|violation| violation.is_serious()).map(Violation::describe).collect();
    ensure!(serious.is_empty(), "axe finds:\n{}", serious.join("\n"));
    Ok(())
}

impl Violation {
    fn is_serious(&self) -> bool {
        matches!(self.impact.as_deref(), Some("serious" | "critical"))
    }

    fn describe(&self) -> String {
        let places: Vec<String> = self.nodes.iter().take(3).map(Node::describe).collect();
        format!("{} ({}):\n{}", self.id, self.help, places.join("\n"))
    }
}

impl Node {
    fn describe(&self) -> String {
        format!("  {}\n    {}", self.html, self.summary.as_deref().unwrap_or_default().replace('\n', "\n    "))
    }
}
