//! Size, steps, guidance, seed and count: what every drawing needs beside its prompt.

use super::number::{real, whole};
use crate::api::{ApiError, ApiResult, Picture, Studio, limits};
use serde::{Deserialize, Serialize};

/// As typed. Empty values stand for the studio's defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drawing {
    /// `256x256`, or `custom`: then `width` and `height` count.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub size: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub width: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub height: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub steps: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub guidance: String,
    /// Empty: the server draws one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub seed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub count: String,
}

impl Drawing {
    pub fn of(picture: &Picture) -> Self {
        Self {
            size: format!("{}x{}", picture.width, picture.height),
            steps: picture.steps.to_string(),
            guidance: crate::format::number(picture.guidance),
            seed: picture.seed.to_string(),
            ..Self::default()
        }
    }

    /// Width and height in pixels.
    pub fn dimensions(&self, studio: &Studio) -> ApiResult<(u32, u32)> {
        if self.size == CUSTOM {
            return Ok((side("Width", &self.width)?, side("Height", &self.height)?));
        }
        match self.size.split_once(['x', '×']) {
            Some((width, height)) => Ok((side("Width", width)?, side("Height", height)?)),
            None => Ok(default_size(studio)),
        }
    }

    pub fn steps(&self, studio: &Studio) -> ApiResult<u32> {
        Ok(whole("Steps", &self.steps, 1..=limits::MAX_STEPS)?.unwrap_or(studio.default_steps))
    }

    pub fn guidance(&self, studio: &Studio) -> ApiResult<f64> {
        Ok(real("Guidance", &self.guidance, 0.0..=limits::MAX_GUIDANCE)?.unwrap_or(studio.default_guidance))
    }

    pub fn seed(&self) -> ApiResult<Option<u64>> {
        whole("Seed", &self.seed, 0..=limits::MAX_SEED)
    }

    pub fn count(&self) -> ApiResult<u32> {
        Ok(whole("The number of pictures", &self.count, 1..=limits::MAX_COUNT)?.unwrap_or(1))
    }
}

/// The value of `size` that stands for typed width and height.
pub const CUSTOM: &str = "custom";

pub fn default_size(studio: &Studio) -> (u32, u32) {
    studio.sizes.first().map_or((256, 256), |(_, width, height)| (*width, *height))
}

fn side(name: &str, typed: &str) -> ApiResult<u32> {
    let missing = || ApiError::new(422, format!("{name} is missing: type a multiple of 16, such as 256."));
    let side = whole(name, typed, 16..=limits::MAX_SIDE)?.ok_or_else(missing)?;
    if side % 16 == 0 {
        return Ok(side);
    }
    let below = side / 16 * 16;
    Err(ApiError::new(422, format!("{name} must be a multiple of 16: take {below} or {} instead of {side}.", below + 16)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn studio() -> Studio {
        Studio {
            version: String::new(),
            model: String::new(),
            device: String::new(),
            sizes: vec![("Square".into(), 256, 256)],
            default_steps: 20,
            default_guidance: 3.5,
            ready: true,
        }
    }

    #[test]
    fn empty_values_are_the_studios_own() {
        let empty = Drawing::default();
        assert_eq!(empty.dimensions(&studio()), Ok((256, 256)));
        assert_eq!((empty.steps(&studio()), empty.guidance(&studio())), (Ok(20), Ok(3.5)));
        assert_eq!((empty.seed(), empty.count()), (Ok(None), Ok(1)));
    }

    #[test]
    fn a_size_that_the_model_cannot_draw_is_told_with_its_neighbours() {
        let odd = Drawing { size: CUSTOM.into(), width: "250".into(), height: "256".into(), ..Drawing::default() };
        assert_eq!(odd.dimensions(&studio()).unwrap_err().message, "Width must be a multiple of 16: take 240 or 256 instead of 250.");
        let preset = Drawing { size: "192x288".into(), ..Drawing::default() };
        assert_eq!(preset.dimensions(&studio()), Ok((192, 288)));
    }
}
