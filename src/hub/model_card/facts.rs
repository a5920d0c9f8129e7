//! What is known of how an adapter came to be: rows for the card's tables, from its adapter.json.

use serde_json::Value;

/// (term, value) pairs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub recipe: Vec<(String, String)>,
    pub metrics: Vec<(String, String)>,
    /// Name and number of the training pictures.
    pub dataset: Option<(String, usize)>,
}

/// Fields of a recipe that say something about the adapter, with their names for people.
const RECIPE: [(&str, &str); 18] = [
    ("rank", "Rank"),
    ("alpha", "Alpha"),
    ("targets", "Layers"),
    ("steps", "Steps"),
    ("batch_size", "Batch size"),
    ("accumulate", "Batches per step"),
    ("learning_rate", "Learning rate"),
    ("schedule", "Schedule"),
    ("warmup_steps", "Warm-up steps"),
    ("optimizer", "Optimiser"),
    ("weight_decay", "Weight decay"),
    ("resolution", "Resolution"),
    ("timestep_sampling", "Noise levels"),
    ("weighting", "Loss weighting"),
    ("guidance", "Guidance"),
    ("caption_dropout", "Caption dropout"),
    ("flip", "Mirrored pictures"),
    ("seed", "Seed"),
];

impl Facts {
    pub fn of(description: &Value) -> Self {
        let recipe = RECIPE.iter().filter_map(|(key, term)| Some(((*term).to_owned(), words(description["recipe"].get(*key)?)?)));
        let metrics = [
            ("steps", "Optimiser steps"),
            ("final_loss", "Loss, mean of the last tenth"),
            ("mean_loss", "Loss, mean of all steps"),
            ("trainable_parameters", "Parameters"),
        ];
        let metrics = metrics.iter().filter_map(|(key, term)| Some(((*term).to_owned(), words(description.get(*key)?)?)));
        let pictures = description["dataset"]["pictures"].as_array().map(Vec::len);
        let name = description["dataset_name"].as_str().unwrap_or("pictures");
        Self { recipe: recipe.collect(), metrics: metrics.collect(), dataset: pictures.map(|count| (name.to_owned(), count)) }
    }

    pub fn with_metric(mut self, term: &str, value: String) -> Self {
        self.metrics.push((term.to_owned(), value));
        self
    }
}

/// A single value as a person writes it; lists and tables are no single values.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Number(number) if number.is_f64() => number.as_f64().map(rounded),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

/// Four digits are more than a loss deserves.
fn rounded(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:e}") } else { format!("{}", (value * 1e4).round() / 1e4) }
}
