//! A picture size that FLUX.1 can draw: both sides multiples of 16.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Width and height in pixels, each a multiple of 16 (8 for the VAE times 2 for the packed latents).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size {
    width: usize,
    height: usize,
}

impl Size {
    pub const MULTIPLE: usize = 16;
    pub const MAX_SIDE: usize = 4096;

    pub fn new(width: usize, height: usize) -> Result<Self> {
        let allowed = |side: usize| (Self::MULTIPLE..=Self::MAX_SIDE).contains(&side) && side.is_multiple_of(Self::MULTIPLE);
        if allowed(width) && allowed(height) {
            return Ok(Self { width, height });
        }
        Err(Error::invalid(format!(
            "size {width}x{height}: width and height must be multiples of 16 from 16 to {}, such as 256x256 or 192x288",
            Self::MAX_SIDE
        )))
    }

    pub fn width(self) -> usize {
        self.width
    }

    pub fn height(self) -> usize {
        self.height
    }

    /// Rows and columns of packed latents: one token covers 16×16 pixels.
    pub fn grid(self) -> (usize, usize) {
        (self.height / 16, self.width / 16)
    }

    /// Image tokens the transformer sees.
    pub fn tokens(self) -> usize {
        let (rows, columns) = self.grid();
        rows * columns
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let sides = text.split_once(['x', '×']).and_then(|(w, h)| Some((w.trim().parse().ok()?, h.trim().parse().ok()?)));
        let (width, height) = sides.ok_or_else(|| Error::invalid(format!("size {text:?}: write it as WIDTHxHEIGHT, such as 256x256")))?;
        Self::new(width, height)
    }
}

impl TryFrom<String> for Size {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}
