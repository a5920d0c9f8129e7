//! Recipes for people: the built-in ones with their values, and what a visitor changed in one.

use super::{
    checks,
    error::{of_train, refuse},
};
use crate::jobs::resident::Facts;
use app::api::{ApiResult, DatasetInfo, Prediction, RecipeInfo, RecipeSettings, TrainRequest, limits};
use serde_json::Value;
use train::Recipe;

/// The built-in recipes, filled in for the model at hand.
pub fn list(facts: &Facts) -> ApiResult<Vec<RecipeInfo>> {
    Recipe::NAMES.iter().map(|(name, description)| info(name, description, facts)).collect()
}

fn info(name: &str, description: &str, facts: &Facts) -> ApiResult<RecipeInfo> {
    let recipe = Recipe::load_for(name, &facts.config).map_err(of_train)?;
    // Both sides use the same names: those of the recipe file.
    let settings = serde_json::to_value(&recipe).and_then(serde_json::from_value).map_err(|error| refuse(error.to_string()))?;
    Ok(RecipeInfo { name: name.to_owned(), title: title(name), description: title(description) + ".", settings })
}

/// The recipe that a request asks for, within every limit. Sample prompts left out are taken from the captions.
pub fn build(request: &TrainRequest, set: &DatasetInfo, facts: &Facts) -> ApiResult<Recipe> {
    if !Recipe::NAMES.iter().any(|(name, _)| *name == request.recipe) {
        let names = Recipe::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(refuse(format!("There is no recipe {:?}; choose one of {names}.", request.recipe)));
    }
    let base = Recipe::load_for(&request.recipe, &facts.config).map_err(of_train)?;
    let mut recipe = changed(&base, &request.settings)?;
    checks::between("Steps", recipe.steps as u32, 1, limits::MAX_TRAIN_STEPS)?;
    checks::between("Rank", recipe.rank as u32, 1, limits::MAX_RANK)?;
    recipe.warmup_steps = if request.settings.warmup_steps.is_none() { recipe.warmup_steps.min(recipe.steps) } else { recipe.warmup_steps };
    if recipe.resolution.width() * recipe.resolution.height() > facts.most_pixels() as usize {
        let side = facts.most_pixels().isqrt();
        return Err(refuse(format!(
            "Resolution {} is too large for this model; at most as many pixels as {side}x{side} are allowed.",
            recipe.resolution
        )));
    }
    if recipe.sample_prompts.is_empty() && request.settings.sample_prompts.is_none() {
        recipe.sample_prompts = set.items.iter().take(2).map(|item| item.caption.clone()).collect();
    }
    recipe.check().map_err(of_train)?;
    Ok(recipe)
}

/// A set that can be trained on: some pictures, each with words.
pub fn check_set(set: &DatasetInfo) -> ApiResult<()> {
    if set.items.is_empty() {
        return Err(refuse("This style set has no pictures; add 5 to 30."));
    }
    match set.items.iter().filter(|item| item.caption.trim().is_empty()).count() {
        0 => Ok(()),
        1 => Err(refuse("One picture has no caption; write one, or set a trigger phrase for all.")),
        some => Err(refuse(format!("{some} pictures have no caption; write them, or set a trigger phrase for all."))),
    }
}

/// Seconds and memory, and what is unwise.
pub fn predict(recipe: &Recipe, set: &DatasetInfo, facts: &Facts) -> Prediction {
    let predicted = train::estimate::predict(&facts.config, recipe, set.items.len());
    let mut warnings = Vec::new();
    if set.items.len() < 5 {
        warnings.push("A style set of fewer than 5 pictures is soon learnt by heart; 5 to 30 work better.".to_owned());
    }
    if recipe.guidance != 1.0 && facts.config.guidance_embeds {
        warnings.push("This model has its guidance distilled in: adapters train best with guidance 1.".to_owned());
    }
    let seen = recipe.steps * recipe.batch_size * recipe.accumulate / set.items.len().max(1);
    if seen > 400 {
        warnings.push(format!("Each picture would be seen {seen} times: the adapter may copy pictures instead of the style."));
    }
    let free_mib = free_memory_mib();
    if predicted.peak_mib > free_mib {
        warnings.push(format!("This needs about {:.0} MiB of memory, and {free_mib:.0} MiB are free: choose a smaller resolution or batch, or turn gradient checkpointing on.", predicted.peak_mib));
    }
    Prediction { seconds: predicted.seconds, peak_mib: predicted.peak_mib, warnings }
}

fn free_memory_mib() -> f64 {
    let Ok(mut system) = sysinfo::System::new() else { return f64::INFINITY };
    system.refresh_memory();
    system.available_memory() as f64 / f64::from(1 << 20)
}

fn changed(base: &Recipe, settings: &RecipeSettings) -> ApiResult<Recipe> {
    let numbers = [
        ("Alpha", settings.alpha),
        ("The learning rate", settings.learning_rate),
        ("Guidance", settings.guidance),
        ("Caption dropout", settings.caption_dropout),
    ];
    // JSON has no word for them: they would pass as "not changed".
    if let Some((name, _)) = numbers.iter().find(|(_, value)| value.is_some_and(|value| !value.is_finite())) {
        return Err(refuse(format!("{name} must be a number.")));
    }
    let (Ok(mut recipe), Ok(changes)) = (serde_json::to_value(base), serde_json::to_value(settings)) else {
        return Err(refuse("The recipe cannot be read."));
    };
    for (name, value) in changes.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        recipe[name] = trimmed(value);
    }
    serde_json::from_value(recipe).map_err(|error| refuse(format!("The recipe cannot be used: {error}.")))
}

fn trimmed(value: &Value) -> Value {
    value.as_str().map_or_else(|| value.clone(), |text| text.trim().into())
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_change_a_recipe_by_its_own_names() {
        let base = Recipe::default();
        let settings =
            RecipeSettings { rank: Some(4), schedule: Some("cosine".into()), resolution: Some("192x288".into()), ..Default::default() };
        let recipe = changed(&base, &settings).unwrap();
        assert_eq!((recipe.rank, recipe.resolution.to_string().as_str(), recipe.steps), (4, "192x288", base.steps));
        assert_eq!(recipe.schedule, train::recipe::Schedule::Cosine);
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let nan = RecipeSettings { learning_rate: Some(f64::NAN), ..Default::default() };
        assert!(changed(&Recipe::default(), &nan).unwrap_err().message.contains("learning rate"));
        let word = RecipeSettings { optimizer: Some("magic".into()), ..Default::default() };
        assert!(changed(&Recipe::default(), &word).unwrap_err().message.contains("adamw8bit"));
    }

    #[test]
    fn every_setting_is_a_field_of_the_recipe() {
        let recipe = serde_json::to_value(Recipe::default()).unwrap();
        let settings = serde_json::to_value(RecipeSettings::default()).unwrap();
        for name in settings.as_object().unwrap().keys() {
            assert!(recipe.get(name).is_some(), "{name}");
        }
    }
}
