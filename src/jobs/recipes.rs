//! Recipes for people: the built-in ones with their values, what a visitor changed in one, and what it will take.

use super::{
    Jobs,
    error::{Error, Result, blocking},
    resident::Facts,
};
use app::api::{DatasetInfo, Prediction, RecipeInfo, RecipeSettings, TrainRequest, limits};
use serde_json::Value;
use std::sync::Arc;
use train::Recipe;

impl Jobs {
    /// The built-in recipes, filled in for the model at hand.
    pub async fn recipes(&self) -> Result<Vec<RecipeInfo>> {
        let facts = self.facts().await?;
        Recipe::NAMES.iter().map(|(name, description)| info(name, description, &facts)).collect()
    }

    /// Seconds and memory, and what would be refused or is unwise.
    pub async fn predict(&self, request: &TrainRequest, set: DatasetInfo) -> Result<Prediction> {
        let facts = self.facts().await?;
        let recipe = build(request, &set, &facts)?;
        blocking(move || predict(&recipe, &set, &facts)).await
    }

    /// The recipe that a request asks for, for a set that can be trained on.
    pub async fn recipe_for(&self, request: &TrainRequest, set: &DatasetInfo) -> Result<Recipe> {
        check_set(set)?;
        let facts = self.facts().await?;
        let recipe = build(request, set, &facts)?;
        facts.check_training(&recipe)?;
        Ok(recipe)
    }

    async fn facts(&self) -> Result<Arc<Facts>> {
        self.device.facts().await.map_err(|error| Error::Unavailable(error.to_string()))
    }
}

fn info(name: &str, description: &str, facts: &Facts) -> Result<RecipeInfo> {
    let recipe = Recipe::load_for(name, &facts.config)?;
    // Both sides use the same names: those of the recipe file.
    let settings = serde_json::to_value(&recipe).and_then(serde_json::from_value);
    let settings = settings.map_err(|error| Error::Fault(error.to_string()))?;
    Ok(RecipeInfo { name: name.to_owned(), title: title(name), description: title(description) + ".", settings })
}

/// Within every limit. Sample prompts left out are taken from the captions.
fn build(request: &TrainRequest, set: &DatasetInfo, facts: &Facts) -> Result<Recipe> {
    if !Recipe::NAMES.iter().any(|(name, _)| *name == request.recipe) {
        let names = Recipe::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(Error::Refused(format!("There is no recipe {:?}; choose one of {names}.", request.recipe)));
    }
    let mut recipe = changed(&Recipe::load_for(&request.recipe, &facts.config)?, &request.settings)?;
    between("Steps", recipe.steps, limits::MAX_TRAIN_STEPS)?;
    between("Rank", recipe.rank, limits::MAX_RANK)?;
    if recipe.resolution.width() * recipe.resolution.height() > facts.most_pixels() as usize {
        let (size, side) = (recipe.resolution, facts.most_pixels().isqrt());
        return Err(Error::Refused(format!(
            "Resolution {size} is too large for this model; at most as many pixels as {side}x{side} are allowed."
        )));
    }
    if request.settings.warmup_steps.is_none() {
        recipe.warmup_steps = recipe.warmup_steps.min(recipe.steps);
    }
    if recipe.sample_prompts.is_empty() && request.settings.sample_prompts.is_none() {
        let captions = set.items.iter().map(|item| &item.caption).filter(|caption| !caption.is_empty());
        recipe.sample_prompts = captions.take(2).cloned().collect();
    }
    recipe.check()?;
    Ok(recipe)
}

fn between(name: &str, given: usize, most: u32) -> Result<()> {
    if (1..=most as usize).contains(&given) {
        return Ok(());
    }
    Err(Error::Refused(format!("{name}: {given} is not allowed; give a number from 1 to {most}.")))
}

/// A set that can be trained on: some pictures, each with words.
fn check_set(set: &DatasetInfo) -> Result<()> {
    if set.items.is_empty() {
        return Err(Error::refused("This style set has no pictures; add 5 to 30."));
    }
    match set.items.iter().filter(|item| item.caption.trim().is_empty()).count() {
        0 => Ok(()),
        1 => Err(Error::refused("One picture has no caption; write one, or set a trigger phrase for all.")),
        some => Err(Error::Refused(format!("{some} pictures have no caption; write them, or set a trigger phrase for all."))),
    }
}

fn predict(recipe: &Recipe, set: &DatasetInfo, facts: &Facts) -> Result<Prediction> {
    let train::estimate::Prediction { seconds, peak_mib, .. } = facts.predict(recipe, set.items.len())?;
    let mut warnings = Vec::new();
    if let Err(error) = check_set(set) {
        warnings.push(error.to_string());
    }
    if (1..5).contains(&set.items.len()) {
        warnings.push("A style set of fewer than 5 pictures is soon learnt by heart; 5 to 30 work better.".to_owned());
    }
    if recipe.guidance != 1.0 && facts.config.guidance_embeds {
        warnings.push("This model has its guidance distilled in: adapters train best with guidance 1.".to_owned());
    }
    let seen = recipe.steps * recipe.batch_size * recipe.accumulate / set.items.len().max(1);
    if seen > MOST_SEEN {
        warnings.push(format!("Each picture would be seen {seen} times: the adapter may copy pictures instead of the style."));
    }
    let budget_mib = facts.budget_mib();
    match facts.check_training(recipe) {
        Err(error) => warnings.push(Error::from(error).to_string()),
        Ok(()) if peak_mib > budget_mib => warnings.push(format!(
            "This needs about {peak_mib:.0} MiB of memory, and {budget_mib:.0} MiB can be used: choose a smaller resolution or batch, or full gradient checkpointing."
        )),
        Ok(()) => {}
    }
    Ok(Prediction { seconds, peak_mib, warnings })
}

/// Beyond this a small set comes out of the model again, picture by picture.
const MOST_SEEN: usize = 400;

fn changed(base: &Recipe, settings: &RecipeSettings) -> Result<Recipe> {
    let numbers = [
        ("Alpha", settings.alpha),
        ("The learning rate", settings.learning_rate),
        ("Guidance", settings.guidance),
        ("Caption dropout", settings.caption_dropout),
    ];
    // JSON has no word for them: they would pass as "not changed".
    if let Some((name, _)) = numbers.iter().find(|(_, value)| value.is_some_and(|value| !value.is_finite())) {
        return Err(Error::Refused(format!("{name} must be a number.")));
    }
    let (Ok(mut recipe), Ok(changes)) = (serde_json::to_value(base), serde_json::to_value(settings)) else {
        return Err(Error::refused("The recipe cannot be read."));
    };
    for (name, value) in changes.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        recipe[name] = trimmed(value);
    }
    serde_json::from_value(recipe).map_err(|error| Error::Refused(format!("The recipe cannot be used: {error}.")))
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
        assert!(changed(&Recipe::default(), &nan).unwrap_err().to_string().contains("learning rate"));
        let word = RecipeSettings { optimizer: Some("magic".into()), ..Default::default() };
        assert!(changed(&Recipe::default(), &word).unwrap_err().to_string().contains("adamw8bit"));
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
