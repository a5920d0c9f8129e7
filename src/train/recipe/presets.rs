//! The built-in recipes. Each has values for small models such as flux-mini, which draw at 256 pixels and want large steps,
//! and for FLUX.1 at full size, which draws at 1024 and wants small ones.

use super::{OptimizerKind, Policy, Recipe, Schedule};
use engine::Size;

pub const NAMES: &[(&str, &str)] = &[
    ("quick", "the style in a minute or two: few steps, larger ones"),
    ("impressionist", "square paintings: broken colour and short strokes"),
    ("mucha", "posters of two to three: contours, flat colour and ornament"),
    ("thorough", "three times the steps of quick, after a gentle start"),
    ("reference", "the values of the diffusers quantised-LoRA recipe, step for step"),
];

/// Transformer width from which a model counts as full size; FLUX.1 has 3072, flux-mini 256.
const FULL_WIDTH: usize = 1024;

/// What differs between the two kinds of models.
struct Scale {
    square: Size,
    portrait: Size,
    learning_rate: f64,
    /// Of `quick`; the others are longer.
    steps: usize,
    optimizer: OptimizerKind,
}

pub fn small(name: &str) -> Option<Recipe> {
    let scale = Scale { square: square(256), portrait: size(192, 288), learning_rate: 1e-3, steps: 200, optimizer: OptimizerKind::AdamW };
    build(name, &scale)
}

pub fn for_model(name: &str, model: &engine::transformer::Config) -> Option<Recipe> {
    if model.num_attention_heads * model.attention_head_dim < FULL_WIDTH {
        return small(name);
    }
    let scale =
        Scale { square: square(512), portrait: size(512, 768), learning_rate: 2e-4, steps: 500, optimizer: OptimizerKind::AdamW8bit };
    build(name, &scale)
}

fn build(name: &str, scale: &Scale) -> Option<Recipe> {
    let common = Recipe {
        name: name.to_owned(),
        steps: scale.steps,
        learning_rate: scale.learning_rate,
        resolution: scale.square,
        optimizer: scale.optimizer,
        ..Recipe::default()
    };
    let recipe = match name {
        "quick" => common,
        "impressionist" => Recipe { steps: scale.steps * 3 / 2, buckets: false, ..common },
        "mucha" => Recipe { steps: scale.steps * 3 / 2, buckets: false, resolution: scale.portrait, ..common },
        "thorough" => Recipe { steps: scale.steps * 3, warmup_steps: 20, ..common },
        "reference" => Recipe {
            rank: 4,
            alpha: 4.0,
            targets: "attention".into(),
            steps: 700,
            learning_rate: 1e-4,
            schedule: Schedule::Constant,
            batch_size: 1,
            accumulate: 4,
            optimizer: OptimizerKind::AdamW8bit,
            resolution: scale.portrait,
            buckets: false,
            max_sequence_length: 77,
            gradient_checkpointing: Policy::Full,
            ..common
        },
        _ => return None,
    };
    Some(recipe)
}

pub fn square(side: usize) -> Size {
    size(side, side)
}

fn size(width: usize, height: usize) -> Size {
    Size::new(width, height).expect("a preset's sides are multiples of 16")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_recipe_exists_and_keeps_the_limits() {
        for (name, _) in NAMES {
            let recipe = small(name).unwrap();
            recipe.check().unwrap();
            assert_eq!(&recipe.name, name);
        }
    }
}
