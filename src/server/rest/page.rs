//! `/api`: the document for people, one page that can be read and searched.

use super::super::html::escaped;
use utoipa::openapi::{OpenApi, PathItem, path::Operation};

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>HTTP API · Atelier</title>
<link rel="icon" href="/icons/atelier.svg" type="image/svg+xml">
<link rel="stylesheet" href="/pkg/atelier.css">
<style>
main { max-width: 60rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 1.6rem; }
p { margin: 0.7rem 0; }
code, pre { font-size: 0.9em; }
td { vertical-align: top; padding: 0.3rem 1rem 0.3rem 0; }
td:first-child, td:nth-child(2) { white-space: nowrap; }
pre { overflow-x: auto; padding: 0.7rem; border: 1px solid; }
.table { overflow-x: auto; }
</style>
</head>
<body>
<main id="main">
<p><a href="/">Atelier</a></p>
<h1>HTTP API</h1>
<p>What the pages do, for scripts. The machine's version of this page is <a href="/api/openapi.json">openapi.json</a>: OpenAPI, with every
field of every request and answer.</p>
<pre>curl --json '{"prompt": "a lake at dusk"}' 'http://localhost:7860/api/v1/pictures?wait=50'
curl --output lake.png http://localhost:7860/api/v1/pictures/PICTURE/image</pre>
<p>A server that others reach wants a token with each request, <code>Authorization: Bearer TOKEN</code>; whoever runs it makes one with
<code>atelier token create --name NAME</code>. Work that takes time is a run: wait for it with <code>?wait=SECONDS</code>, or watch its
events. A refusal is <code>{"status": 422, "message": "…"}</code>, and its message says what to do.</p>
<p>Clients of OpenAI's images API work with the base address <code>http://localhost:7860/v1</code>.</p>
"#;

/// The page as HTML.
pub fn render(document: &OpenApi) -> String {
    let mut page = HEAD.to_owned();
    for tag in document.tags.iter().flatten() {
        page += &format!("<h2>{}</h2>\n<div class=\"table\"><table>\n", escaped(&tag.name));
        for (path, item) in &document.paths.paths {
            page.extend(rows(path, item, &tag.name));
        }
        page += "</table></div>\n";
    }
    page + "</main>\n</body>\n</html>\n"
}

fn rows(path: &str, item: &PathItem, tag: &str) -> Vec<String> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let operations = [("GET", get), ("PUT", put), ("POST", post), ("PATCH", patch), ("DELETE", delete)];
    let there = operations.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)));
    let tagged = there.filter(|(_, operation)| operation.tags.iter().flatten().any(|own| own == tag));
    tagged.map(|(method, operation)| row(method, path, operation)).collect()
}

fn row(method: &str, path: &str, operation: &Operation) -> String {
    let summary = marked(operation.summary.as_deref().unwrap_or_default());
    let more = operation.description.as_deref().map(|text| format!("<br><small>{}</small>", marked(text))).unwrap_or_default();
    format!("<tr><td>{method}</td><td><code>{}</code></td><td>{summary}{more}</td></tr>\n", escaped(path))
}

/// What stands between backticks is code.
fn marked(text: &str) -> String {
    let parts = text.split('`').map(escaped).enumerate();
    parts.map(|(i, part)| if i % 2 == 0 { part } else { format!("<code>{part}</code>") }).collect()
}
