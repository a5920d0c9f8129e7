//! The words of a card, in Markdown: gallery, trigger, how to use it, how it was made.

use super::{Base, Card, base_picture, picture};
use crate::hub::package::WEIGHTS;

pub fn write(card: &Card) -> String {
    let sections = [heading(card), trigger(card), comparison(card), usage(card), training(card), metrics(card), rights(card)];
    sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n"
}

fn heading(card: &Card) -> String {
    let gallery = if card.examples.is_empty() { "" } else { "<Gallery />\n\n" };
    let base = base(&card.base);
    format!("# {}\n\n{gallery}A LoRA adapter for {base}, made with Atelier.", plain(&card.title))
}

fn base(base: &Base) -> String {
    match &base.id {
        Some(id) => format!("[{}](https://huggingface.co/{id})", plain(&base.name)),
        None if base.is_embedded() => format!("{}, the model that comes with Atelier", plain(&base.name)),
        None => plain(&base.name),
    }
}

fn trigger(card: &Card) -> String {
    let Some(trigger) = &card.trigger else { return String::new() };
    format!("## Trigger words\n\nEnd the prompt in {} to call the style.", code(trigger))
}

/// Pairs that were drawn from the same noise.
fn comparison(card: &Card) -> String {
    let pairs: Vec<_> = card.examples.iter().enumerate().filter(|(_, example)| example.base.is_some()).collect();
    if pairs.is_empty() {
        return String::new();
    }
    let rows = pairs.iter().map(|(index, example)| {
        let note = if example.note.is_empty() { String::new() } else { format!(" ({})", plain(&example.note)) };
        format!(
            "| {}{note} | ![Without the adapter]({}) | ![With the adapter]({}) |",
            plain(&example.prompt),
            base_picture(*index),
            picture(*index)
        )
    });
    let rows = rows.collect::<Vec<_>>().join("\n");
    format!(
        "## Without and with it\n\nEach row starts from the same noise.\n\n| prompt | base model | with this adapter |\n| --- | --- | --- |\n{rows}"
    )
}

fn usage(card: &Card) -> String {
    let (pretrained, repo, trigger) = (card.base.pretrained(), &card.repo, card.trigger.as_deref());
    let prompt = card.examples.first().map_or_else(|| trigger.unwrap_or("a lake with mountains"), |example| example.prompt.as_str());
    let prompt = serde_json::Value::from(prompt.split_whitespace().collect::<Vec<_>>().join(" "));
    let dtype = if card.base.is_embedded() { "float32" } else { "bfloat16" };
    format!(
        "## Use it\n\nIn diffusers:\n\n```python\nimport torch\nfrom diffusers import FluxPipeline\n\n\
         pipeline = FluxPipeline.from_pretrained(\"{pretrained}\", torch_dtype=torch.{dtype})\n\
         pipeline.load_lora_weights(\"{repo}\", weight_name=\"{WEIGHTS}\")\n\
         picture = pipeline({prompt}).images[0]\npicture.save(\"picture.png\")\n```\n\n\
         In ComfyUI: download [`{WEIGHTS}`]({WEIGHTS}) into `models/loras`, and put a *Load LoRA* node between the model and the sampler.\n\n\
         In Atelier: *Adapters*, then *Bring an adapter*; or `atelier generate --adapter {WEIGHTS} --prompt …`."
    )
}

fn training(card: &Card) -> String {
    let mut text = String::from("## How it was made");
    if let Some((name, count)) = &card.facts.dataset {
        let pictures = if *count == 1 { "picture" } else { "pictures" };
        text += &format!("\n\nTrained on {count} {pictures} of the set “{}”.", plain(name));
    }
    if !card.facts.recipe.is_empty() {
        text += &format!("\n\n{}", table("setting", &card.facts.recipe));
    }
    text + "\n\nAll that is known of it is in [`adapter.json`](adapter.json)."
}

fn metrics(card: &Card) -> String {
    if card.facts.metrics.is_empty() { String::new() } else { format!("## Metrics\n\n{}", table("measure", &card.facts.metrics)) }
}

fn rights(card: &Card) -> String {
    let rights = card.rights.as_deref().map_or_else(|| "The publisher has not said whose the training pictures are.".to_owned(), plain);
    let licence = match card.licence.link {
        Some(link) => format!("[{}]({link})", plain(card.licence.title)),
        None => plain(card.licence.title),
    };
    format!("## Rights\n\nTraining pictures: {rights}\n\nLicence of the adapter: {licence}.")
}

fn table(head: &str, rows: &[(String, String)]) -> String {
    let rows = rows.iter().map(|(term, value)| format!("| {} | {} |", plain(term), plain(value))).collect::<Vec<_>>().join("\n");
    format!("| {head} | value |\n| --- | --- |\n{rows}")
}

/// Somebody's words as words: on one line, and nothing in them means anything to Markdown.
fn plain(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().flat_map(|c| if "\\`*_{}[]<>()#!|~&".contains(c) { vec!['\\', c] } else { vec![c] }).collect()
}

/// As code; the fence is longer than any within.
fn code(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    if longest > 0 { format!("{fence} {text} {fence}") } else { format!("{fence}{text}{fence}") }
}
