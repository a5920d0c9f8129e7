//! The form of the Compare page.

use super::number::real;
use super::{Drawing, write_query};
use crate::api::{AdapterId, ApiError, ApiResult, CompareRequest, Comparison, Picture, Studio, limits};
use crate::format;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CompareForm {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub adapter: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    #[serde(flatten)]
    pub drawing: Drawing,
    /// Strengths that are ticked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scales: Vec<String>,
}

impl CompareForm {
    pub fn with_adapter(id: &AdapterId) -> Self {
        Self { adapter: id.0.clone(), ..Self::default() }
    }

    /// The same prompt and seed as this picture, with and without its first adapter.
    pub fn of(picture: &Picture) -> Self {
        let used = picture.adapters.first();
        Self {
            adapter: used.map(|used| used.id.0.clone()).unwrap_or_default(),
            prompt: picture.prompt.clone(),
            drawing: Drawing::of(picture),
            scales: used.map(|used| format::number(used.scale)).into_iter().collect(),
        }
    }

    /// What an earlier comparison was made from.
    pub fn again(comparison: &Comparison) -> Self {
        let request = &comparison.request;
        Self {
            adapter: request.adapter.0.clone(),
            prompt: request.prompt.clone(),
            drawing: Drawing {
                size: format!("{}x{}", request.width, request.height),
                steps: request.steps.to_string(),
                guidance: format::number(request.guidance),
                seed: comparison.seed.to_string(),
                count: request.count.to_string(),
                ..Drawing::default()
            },
            scales: request.scales.iter().map(|scale| format::number(*scale)).collect(),
        }
    }

    pub fn href(&self) -> String {
        format!("/compare?{}", self.query())
    }

    pub fn query(&self) -> String {
        let prompt = self.prompt.chars().take(limits::MAX_PROMPT_CHARS).collect();
        write_query(&Self { prompt, ..self.clone() })
    }

    pub fn request(&self, studio: &Studio) -> ApiResult<CompareRequest> {
        if self.adapter.is_empty() {
            return Err(ApiError::new(422, "Choose an adapter to compare with the base model."));
        }
        let (width, height) = self.drawing.dimensions(studio)?;
        Ok(CompareRequest {
            prompt: self.prompt.trim().to_owned(),
            adapter: AdapterId(self.adapter.clone()),
            scales: self.strengths()?,
            width,
            height,
            steps: self.drawing.steps(studio)?,
            guidance: self.drawing.guidance(studio)?,
            seed: self.drawing.seed()?,
            count: self.drawing.count()?,
        })
    }

    fn strengths(&self) -> ApiResult<Vec<f64>> {
        let read = |typed: &String| real("Strength", typed, -limits::MAX_SCALE..=limits::MAX_SCALE).transpose();
        let scales = self.scales.iter().filter_map(read).collect::<ApiResult<Vec<_>>>()?;
        if scales.is_empty() {
            return Err(ApiError::new(422, "Choose at least one strength to draw beside the base."));
        }
        Ok(scales)
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_query;
    use super::*;

    #[test]
    fn ticked_strengths_come_as_a_list() {
        let form: CompareForm = read_query("adapter=a&prompt=x&scales[]=0.5&scales[]=1");
        assert_eq!(form.strengths(), Ok(vec![0.5, 1.0]));
        assert_eq!(read_query::<CompareForm>(&form.query()), form);
    }

    #[test]
    fn no_strength_is_refused() {
        assert!(CompareForm::default().strengths().unwrap_err().message.starts_with("Choose at least one strength"));
    }
}
