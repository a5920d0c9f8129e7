//! Which size a picture is trained at, and which part of it: buckets of many aspect ratios or one fixed size, resize and crop.

use crate::random::{self, Purpose};
use crate::{Error, Recipe, Result};
use engine::{Device, Size, Tensor};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer, images::Image};
use image::{RgbImage, imageops};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest side over shortest of a bucket; pictures beyond it lose their ends.
const WIDEST: f64 = 2.5;
/// Share of the recipe's area that a bucket may fall short of: the price of sides that are multiples of 16.
const SHORTFALL: f64 = 0.2;

/// All sizes of about `resolution`'s area, never above it, so that no bucket needs more memory than the recipe's own size.
pub fn buckets(resolution: Size) -> Vec<Size> {
    let area = resolution.width() * resolution.height();
    let sides = || (Size::MULTIPLE..=Size::MAX_SIDE).step_by(Size::MULTIPLE);
    let least = (area as f64 * (1.0 - SHORTFALL)).ceil() as usize;
    let fits = |&(w, h): &(usize, usize)| (least..=area).contains(&(w * h)) && w.max(h) as f64 <= WIDEST * w.min(h) as f64;
    let mut sizes: Vec<Size> =
        sides().flat_map(|w| sides().map(move |h| (w, h))).filter(fits).filter_map(|(w, h)| Size::new(w, h).ok()).collect();
    if !sizes.contains(&resolution) {
        sizes.push(resolution);
    }
    sizes
}

/// The bucket whose shape is nearest to the picture's; of equals the largest.
pub fn nearest(sizes: &[Size], width: u32, height: u32) -> Size {
    let shape = (f64::from(width) / f64::from(height)).ln();
    let distance = |size: &Size| ((size.width() as f64 / size.height() as f64).ln() - shape).abs();
    let area = |size: &Size| size.width() * size.height();
    let nearer = |a: &&Size, b: &&Size| distance(a).total_cmp(&distance(b)).then(area(b).cmp(&area(a)));
    *sizes.iter().min_by(nearer).expect("a recipe's own resolution is always a bucket")
}

/// How one picture is cut for training. Part of the latents' cache key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    pub size: Size,
    /// Where the cut lies in what is too much, from 0 (left, top) over 500 (the middle) to 1000.
    pub x_permille: u16,
    pub y_permille: u16,
    pub flipped: bool,
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}{}", self.size, self.x_permille, self.y_permille, if self.flipped { "-flipped" } else { "" })
    }
}

impl Frame {
    /// The frame of a picture under a recipe. A random crop is drawn from (seed, picture) and stays for the whole run.
    pub fn of(recipe: &Recipe, sha256: &str, (width, height): (u32, u32), flipped: bool) -> Self {
        let size = if recipe.buckets { nearest(&buckets(recipe.resolution), width, height) } else { recipe.resolution };
        let mut rng = random::keyed(recipe.seed, Purpose::Crop, &[&sha256]);
        let mut place = || if recipe.random_crop { rng.random_range(0..=1000) } else { 500 };
        Self { size, x_permille: place(), y_permille: place(), flipped }
    }

    /// Resizes so that the picture just covers the frame, then cuts.
    pub fn cut(&self, picture: &RgbImage) -> Result<RgbImage> {
        let (width, height) = (self.size.width() as u32, self.size.height() as u32);
        let (left, top, cut_width, cut_height) = self.window(picture.dimensions());
        let (source_width, source_height) = picture.dimensions();
        let source = Image::from_vec_u8(source_width, source_height, picture.as_raw().clone(), PixelType::U8x3).map_err(resize_failed)?;
        let mut target = Image::new(width, height, PixelType::U8x3);
        // Bilinear over the whole footprint, as the reference's resize does.
        let options = ResizeOptions::new().crop(left, top, cut_width, cut_height).resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
        Resizer::new().resize(&source, &mut target, &options).map_err(resize_failed)?;
        let cut = RgbImage::from_raw(width, height, target.into_vec()).expect("three bytes a pixel");
        Ok(if self.flipped { imageops::flip_horizontal(&cut) } else { cut })
    }

    /// The part of the picture that is kept: (left, top, width, height) in its pixels.
    fn window(&self, (width, height): (u32, u32)) -> (f64, f64, f64, f64) {
        let (width, height) = (f64::from(width), f64::from(height));
        let scale = (width / self.size.width() as f64).min(height / self.size.height() as f64);
        let (kept_width, kept_height) = ((self.size.width() as f64 * scale).min(width), (self.size.height() as f64 * scale).min(height));
        let place = |spare: f64, permille: u16| spare * f64::from(permille) / 1000.0;
        (place(width - kept_width, self.x_permille), place(height - kept_height, self.y_permille), kept_width, kept_height)
    }
}

/// [1, 3, H, W] in -1..=1.
pub fn to_tensor(picture: &RgbImage, device: &Device) -> Result<Tensor> {
    let (width, height) = picture.dimensions();
    let pixels = Tensor::from_slice(picture.as_raw(), (1, height as usize, width as usize, 3), device)?;
    let pixels = pixels.permute((0, 3, 1, 2))?.to_dtype(engine::DType::F32)?;
    Ok(((pixels / 127.5)? - 1.0)?.contiguous()?)
}

fn resize_failed(error: impl fmt::Display) -> Error {
    Error::Dataset(format!("a picture could not be resized ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_keep_area_shape_and_multiples(columns in 4usize..=24, rows in 4usize..=24) {
            let resolution = Size::new(columns * 16, rows * 16).unwrap();
            let area = resolution.width() * resolution.height();
            for size in buckets(resolution) {
                prop_assert!(size.width() % 16 == 0 && size.height() % 16 == 0);
                prop_assert!(size.width() * size.height() <= area);
                prop_assert!(size == resolution || size.width() * size.height() * 5 >= area * 4);
            }
        }

        #[test]
        fn a_frame_lies_inside_the_picture(width in 32u32..4000, height in 32u32..4000, x in 0u16..=1000, y in 0u16..=1000) {
            let size = nearest(&buckets(Size::new(256, 256).unwrap()), width, height);
            let (left, top, w, h) = Frame { size, x_permille: x, y_permille: y, flipped: false }.window((width, height));
            prop_assert!(left >= 0.0 && top >= 0.0 && left + w <= f64::from(width) + 1e-6 && top + h <= f64::from(height) + 1e-6);
            prop_assert!((w / h / (size.width() as f64 / size.height() as f64) - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_poster_of_two_to_three_gets_the_models_own_portrait_size() {
        let sizes = buckets(Size::new(256, 256).unwrap());
        assert_eq!(nearest(&sizes, 512, 768).to_string(), "192x288");
        assert_eq!(nearest(&sizes, 512, 512).to_string(), "256x256");
        assert_eq!(nearest(&sizes, 5000, 500).to_string(), nearest(&sizes, 10_000, 1000).to_string());
    }

    #[test]
    fn the_crop_is_the_middle_and_a_flip_mirrors_it() {
        let picture = RgbImage::from_fn(96, 32, |x, _| {
            Rgb([if x < 32 {
                0
            } else if x < 64 {
                100
            } else {
                200
            }; 3])
        });
        let frame = |x_permille, flipped| Frame { size: Size::new(32, 32).unwrap(), x_permille, y_permille: 500, flipped };
        let middle = frame(500, false).cut(&picture).unwrap();
        assert!(middle.pixels().all(|pixel| pixel.0 == [100; 3]));
        let whole = Frame { size: Size::new(96, 32).unwrap(), x_permille: 500, y_permille: 500, flipped: true }.cut(&picture).unwrap();
        assert_eq!((whole.get_pixel(0, 0).0, whole.get_pixel(95, 0).0), ([200; 3], [0; 3]));
        assert!(frame(0, false).cut(&picture).unwrap().pixels().all(|pixel| pixel.0 == [0; 3]));
    }
}
