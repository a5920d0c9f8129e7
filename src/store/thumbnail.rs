//! Small JPEGs: for lists of pictures, and for the look at an unfinished one.

use super::{Error, Result};
use image::{DynamicImage, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};

/// Longer side of a thumbnail, pixels.
const SIDE: u32 = 320;

/// At most [`SIDE`] pixels each way, as JPEG. Smaller pictures keep their size.
pub fn encode(picture: &RgbImage) -> Result<Vec<u8>> {
    let (width, height) = picture.dimensions();
    if width.max(height) <= SIDE {
        return jpeg(picture, 88);
    }
    let small = DynamicImage::from(picture.clone()).resize(SIDE, SIDE, FilterType::CatmullRom);
    jpeg(&small.into_rgb8(), 88)
}

pub fn jpeg(picture: &RgbImage, quality: u8) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).map_err(|error| Error::Picture(error.to_string()))?;
    Ok(bytes)
}
