//! What a client asks for, as the studio understands it. Fields that change nothing here, such as `quality` and `user`, are passed over.

use super::{Error, models::Model};
use crate::jobs::import::with_trigger;
use app::api::{AdapterUse, GenerateRequest, limits::MAX_COUNT};
use serde::Deserialize;
use utoipa::ToSchema;

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = OpenAiImagesRequest)]
pub struct ImagesRequest {
    pub prompt: String,
    /// As `GET /v1/models` lists them; the base model if left out. An adapter's trigger phrase is added to the prompt where it is missing.
    pub model: Option<String>,
    /// Pictures, 1 to 4.
    pub n: Option<u32>,
    /// `WIDTHxHEIGHT`, multiples of 16; `auto`, as when left out, is the model's own.
    pub size: Option<String>,
    /// `b64_json` if left out. A link lasts an hour, and whoever has it can use it.
    pub response_format: Option<ResponseFormat>,
    /// `png` only.
    pub output_format: Option<String>,
    /// `opaque` or `auto`.
    pub background: Option<String>,
    /// Tell of the picture while it is drawn, as server-sent events.
    pub stream: Option<bool>,
    /// Looks at the unfinished picture, 0 to 3: small JPEGs.
    pub partial_images: Option<u32>,
    /// Beyond OpenAI's: the same seed is the same picture.
    pub seed: Option<u64>,
    /// Beyond OpenAI's: denoising steps.
    pub steps: Option<u32>,
    /// Beyond OpenAI's: how closely to follow the prompt.
    pub guidance: Option<f64>,
    /// Beyond OpenAI's: strength of the adapter, 1 if left out.
    pub scale: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = OpenAiResponseFormat)]
pub enum ResponseFormat {
    Url,
    B64Json,
}

/// What is to be drawn, and how it is told.
pub struct Order {
    pub request: GenerateRequest,
    /// The prompt, where it was changed.
    pub revised_prompt: Option<String>,
    pub format: ResponseFormat,
    /// Looks at the unfinished picture, where it is to be told of on the way.
    pub stream: Option<u32>,
}

/// Of the looks at one picture.
const MOST_PARTIALS: u32 = 3;

impl ImagesRequest {
    /// Sizes, steps and the prompt's length are checked where every request is.
    pub fn order(self, model: Model) -> Result<Order, Error> {
        let stream = self.streamed()?;
        for (param, given, allowed) in [("output_format", &self.output_format, "png"), ("background", &self.background, "opaque")] {
            if given.as_ref().is_some_and(|given| given != allowed && given != "auto") {
                return Err(Error::invalid(param, format!("{param} can only be {allowed:?} here.")));
            }
        }
        let (width, height) = self.size.as_deref().map_or(Ok((0, 0)), size)?;
        let (prompt, adapters) = match model {
            Model::Base => (self.prompt.clone(), Vec::new()),
            Model::Adapted(adapter) => {
                let used = AdapterUse { id: adapter.id, name: adapter.name, scale: self.scale.unwrap_or(1.0) };
                (with_trigger(&self.prompt, adapter.trigger.as_deref().unwrap_or_default()), vec![used])
            }
        };
        let revised_prompt = Some(prompt.clone()).filter(|prompt| *prompt != self.prompt);
        let request = GenerateRequest {
            prompt,
            width,
            height,
            steps: self.steps.unwrap_or_default(),
            guidance: self.guidance.unwrap_or(3.5),
            seed: self.seed,
            count: self.n.unwrap_or(1),
            adapters,
        };
        Ok(Order { request, revised_prompt, format: self.response_format.unwrap_or(ResponseFormat::B64Json), stream })
    }

    fn streamed(&self) -> Result<Option<u32>, Error> {
        if self.n.is_some_and(|n| !(1..=MAX_COUNT).contains(&n)) {
            return Err(Error::invalid("n", format!("n can be 1 to {MAX_COUNT}.")));
        }
        match (self.stream.unwrap_or(false), self.partial_images.unwrap_or(0)) {
            (_, looks) if looks > MOST_PARTIALS => {
                Err(Error::invalid("partial_images", format!("partial_images can be 0 to {MOST_PARTIALS}.")))
            }
            (false, 1..) => Err(Error::invalid("partial_images", "partial_images needs \"stream\": true.")),
            (false, 0) => Ok(None),
            (true, _) if self.n.is_some_and(|n| n > 1) => Err(Error::invalid("n", "One picture at a time can be streamed; leave out n.")),
            (true, looks) => Ok(Some(looks)),
        }
    }
}

/// 0×0 is the model's own.
fn size(text: &str) -> Result<(u32, u32), Error> {
    if text == "auto" {
        return Ok((0, 0));
    }
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides
        .filter(|(width, height)| *width > 0 && *height > 0)
        .ok_or_else(|| Error::invalid("size", "size is WIDTHxHEIGHT in pixels, such as 256x256, or auto."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(json: serde_json::Value) -> Result<Order, Error> {
        serde_json::from_value::<ImagesRequest>(json).unwrap().order(Model::Base)
    }

    #[test]
    fn a_prompt_is_enough_and_what_cannot_be_is_told_by_its_field() {
        let order = ask(serde_json::json!({"prompt": "a lake", "user": "u", "quality": "hd"})).unwrap();
        assert_eq!((order.request.width, order.request.count, order.stream, order.format), (0, 1, None, ResponseFormat::B64Json));
        for (field, value) in [
            ("n", serde_json::json!(5)),
            ("n", serde_json::json!(0)),
            ("size", serde_json::json!("big")),
            ("size", serde_json::json!("0x64")),
            ("output_format", serde_json::json!("webp")),
            ("background", serde_json::json!("transparent")),
            ("partial_images", serde_json::json!(2)),
        ] {
            let error = ask(serde_json::json!({"prompt": "a lake", field: value})).err().unwrap();
            assert_eq!(error.error.param, Some(field));
        }
        assert_eq!(ask(serde_json::json!({"prompt": "a lake", "stream": true, "partial_images": 2})).unwrap().stream, Some(2));
        assert!(ask(serde_json::json!({"prompt": "a lake", "stream": true, "n": 2})).is_err());
    }
}
