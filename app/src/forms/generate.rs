//! The form of the Generate page.

use super::number::real;
use super::{Drawing, write_query};
use crate::api::{AdapterId, AdapterUse, ApiResult, GenerateRequest, Picture, Studio, limits};
use crate::format;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerateForm {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    #[serde(flatten)]
    pub drawing: Drawing,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<AdapterChoice>,
}

/// One adapter of the picker: the form sends all of them, ticked or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AdapterChoice {
    pub id: String,
    /// Any text when it is ticked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub on: String,
    pub scale: String,
}

impl GenerateForm {
    /// What made this picture, to be made again or changed.
    pub fn of(picture: &Picture) -> Self {
        Self {
            prompt: picture.prompt.clone(),
            drawing: Drawing::of(picture),
            adapters: picture.adapters.iter().map(AdapterChoice::of).collect(),
        }
    }

    /// An empty form with one adapter chosen.
    pub fn with_adapter(id: &AdapterId) -> Self {
        Self { adapters: vec![AdapterChoice { id: id.0.clone(), on: "1".into(), scale: "1".into() }], ..Self::default() }
    }

    /// The address of the Generate page, filled in.
    pub fn href(&self) -> String {
        format!("/?{}", self.query())
    }

    /// Only what is chosen travels in an address.
    pub fn query(&self) -> String {
        let mut form = self.clone();
        form.adapters.retain(AdapterChoice::is_on);
        form.prompt = form.prompt.chars().take(limits::MAX_PROMPT_CHARS).collect();
        write_query(&form)
    }

    pub fn request(&self, studio: &Studio) -> ApiResult<GenerateRequest> {
        let (width, height) = self.drawing.dimensions(studio)?;
        Ok(GenerateRequest {
            prompt: self.prompt.trim().to_owned(),
            width,
            height,
            steps: self.drawing.steps(studio)?,
            guidance: self.drawing.guidance(studio)?,
            seed: self.drawing.seed()?,
            count: self.drawing.count()?,
            adapters: self.adapters.iter().filter(|choice| choice.is_on()).map(AdapterChoice::adapter_use).collect::<ApiResult<_>>()?,
        })
    }
}

impl AdapterChoice {
    fn of(used: &AdapterUse) -> Self {
        Self { id: used.id.0.clone(), on: "1".into(), scale: format::number(used.scale) }
    }

    pub fn is_on(&self) -> bool {
        !self.on.is_empty() && !self.id.is_empty()
    }

    fn adapter_use(&self) -> ApiResult<AdapterUse> {
        let scale = real("Strength", &self.scale, -limits::MAX_SCALE..=limits::MAX_SCALE)?.unwrap_or(1.0);
        Ok(AdapterUse { id: AdapterId(self.id.clone()), name: String::new(), scale })
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_query;
    use super::*;

    #[test]
    fn a_form_survives_the_address_bar() {
        let form = GenerateForm {
            prompt: "a café & 50 % sky = blue?\nsecond line".into(),
            drawing: Drawing { size: "256x256".into(), seed: "9223372036854775807".into(), ..Drawing::default() },
            adapters: vec![AdapterChoice { id: "a1".into(), on: "1".into(), scale: "0.75".into() }],
        };
        assert_eq!(read_query::<GenerateForm>(&form.query()), form);
        let escaped = form.query().replace('[', "%5B").replace(']', "%5D");
        assert_eq!(read_query::<GenerateForm>(&escaped), form);
    }

    #[test]
    fn adapters_that_are_not_ticked_stay_out() {
        let posted = "prompt=x&adapters[0][id]=a&adapters[0][scale]=1&adapters[1][id]=b&adapters[1][on]=1&adapters[1][scale]=0,5";
        let form: GenerateForm = read_query(posted);
        let used: Vec<_> = form.adapters.iter().filter(|choice| choice.is_on()).map(|choice| choice.adapter_use().unwrap()).collect();
        assert_eq!(used, [AdapterUse { id: AdapterId("b".into()), name: String::new(), scale: 0.5 }]);
    }

    #[test]
    fn other_words_in_the_address_do_no_harm() {
        let form: GenerateForm = read_query("?run=r1&prompt=sea&error=no");
        assert_eq!(form, GenerateForm { prompt: "sea".into(), ..GenerateForm::default() });
    }
}
