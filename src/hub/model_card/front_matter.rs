//! The YAML at the head of a card, which the Hub reads: written by hand, because a quoted string of JSON is one of YAML too.

use super::{Card, picture};
use serde_json::Value;

/// Between its two lines of dashes. Keys that are not known are left out: an empty one means something else to the Hub.
pub fn write(card: &Card) -> String {
    let mut lines = licence(card);
    lines.extend(["library_name: diffusers".to_owned(), "pipeline_tag: text-to-image".to_owned()]);
    if let Some(id) = &card.base.id {
        lines.extend([format!("base_model: {id}"), "base_model_relation: adapter".to_owned()]);
    }
    lines.extend(card.trigger.iter().map(|trigger| format!("instance_prompt: {}", quoted(trigger))));
    lines.push("tags:".to_owned());
    lines.extend(["text-to-image", "diffusers", "lora", "flux", "template:sd-lora", "atelier"].map(|tag| format!("  - {}", quoted(tag))));
    if !card.examples.is_empty() {
        lines.push("widget:".to_owned());
    }
    for (index, example) in card.examples.iter().enumerate() {
        lines.push(format!("  - text: {}", quoted(&example.prompt)));
        lines.push(format!("    output:\n      url: {}", quoted(&picture(index))));
    }
    format!("---\n{}\n---\n", lines.join("\n"))
}

/// A licence that the Hub does not list is named beside `other`.
fn licence(card: &Card) -> Vec<String> {
    match card.licence.link {
        None => vec![format!("license: {}", card.licence.id)],
        Some(link) => vec!["license: other".to_owned(), format!("license_name: {}", card.licence.id), format!("license_link: {link}")],
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The YAML of a card, and what follows it.
pub fn split(markdown: &str) -> Option<(&str, &str)> {
    markdown.strip_prefix("---\n")?.split_once("\n---\n")
}
