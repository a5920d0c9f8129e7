//! Pictures as PNG that carry their whole recipe: once for programs, once for people.

use super::{Error, Result};
use image::RgbImage;
use serde_json::Value;
use std::fmt::Write;

/// JSON of everything that decides the pixels.
pub const RECIPE: &str = "atelier";
/// The same as a line of text, under the keyword that picture viewers look for.
pub const PARAMETERS: &str = "parameters";

/// Encodes with `recipe` in two iTXt chunks; its `prompt` comes first in the readable one.
pub fn encode(picture: &RgbImage, recipe: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(picture, recipe, &mut bytes).map_err(|error| Error::Picture(error.to_string()))?;
    Ok(bytes)
}

/// The recipe that [`encode`] put into a PNG, or `None` when there is none.
pub fn recipe(bytes: &[u8]) -> Option<Value> {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().ok()?;
    reader.finish().ok()?;
    let chunk = reader.info().utf8_text.iter().find(|chunk| chunk.keyword == RECIPE)?;
    serde_json::from_str(&chunk.get_text().ok()?).ok()
}

fn write(picture: &RgbImage, recipe: &Value, bytes: &mut Vec<u8>) -> std::result::Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(bytes, picture.width(), picture.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_itxt_chunk(PARAMETERS.into(), readable(recipe))?;
    encoder.add_itxt_chunk(RECIPE.into(), recipe.to_string())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(picture.as_raw())?;
    writer.finish()
}

/// The prompt, then `Steps: 20, Seed: 7, …`.
fn readable(recipe: &Value) -> String {
    let mut text = recipe["prompt"].as_str().unwrap_or_default().to_owned();
    let settings = recipe.as_object().into_iter().flatten().filter(|(name, value)| *name != "prompt" && !value.is_null());
    for (i, (name, value)) in settings.enumerate() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let separator = if i == 0 { '\n' } else { ' ' };
        let (first, rest) = name.split_at(name.len().min(1));
        let _ = write!(text, "{}{separator}{}{rest}: {value}", if i == 0 { "" } else { "," }, first.to_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_recipe_travels_with_the_picture() {
        let picture = RgbImage::from_fn(32, 48, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let recipe = json!({"prompt": "a quiet harbour — 夕暮れ", "steps": 20, "seed": u64::MAX, "adapters": []});
        let bytes = encode(&picture, &recipe).unwrap();
        assert_eq!(super::recipe(&bytes).unwrap(), recipe);
        assert_eq!(image::load_from_memory(&bytes).unwrap().into_rgb8(), picture);
    }

    #[test]
    fn people_read_the_prompt_first() {
        let text = readable(&json!({"prompt": "a lake", "seed": 7, "model": "flux-mini"}));
        assert!(text == "a lake\nModel: flux-mini, Seed: 7" || text == "a lake\nSeed: 7, Model: flux-mini", "{text}");
    }
}
