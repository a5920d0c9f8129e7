//! Bytes of a visitor → a decoded picture, within limits that are checked before memory is asked for.

use super::{Limits, refuse};
use crate::Result;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Rgb, RgbImage, metadata::Orientation};
use std::io::Cursor;

/// The format that the content shows, whatever the file is called.
pub fn sniff(bytes: &[u8]) -> Option<ImageFormat> {
    image::guess_format(bytes).ok().filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP))
}

/// Decodes with EXIF orientation, on white where it is transparent.
pub fn decode(name: &str, bytes: &[u8], limits: Limits) -> Result<RgbImage> {
    if bytes.len() as u64 > limits.bytes_per_picture {
        let (have, most) = (bytes.len() >> 20, limits.bytes_per_picture >> 20);
        return Err(refuse(format!("{name} has {have} MiB; a picture may have {most} MiB, so save it smaller")));
    }
    let format = sniff(bytes).ok_or_else(|| refuse(format!("{name} is not a picture that can be read; use PNG, JPEG or WebP")))?;
    if format == ImageFormat::Jpeg && !ends_as_jpeg(bytes) {
        return Err(truncated(name));
    }
    let (picture, orientation) = decode_within(name, bytes, format, limits)?;
    Ok(upright_on_white(picture, orientation))
}

fn decode_within(name: &str, bytes: &[u8], format: ImageFormat, limits: Limits) -> Result<(DynamicImage, Orientation)> {
    let damaged = |error: image::ImageError| match error {
        image::ImageError::Limits(_) => too_large(name, limits),
        image::ImageError::IoError(_) => truncated(name),
        error => refuse(format!("{name} is damaged ({error}); save it again or leave it out")),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut allowed = image::Limits::no_limits();
    // Four bytes a pixel for the picture itself, and room for the decoder's rows and tables.
    allowed.max_alloc = Some(limits.pixels * 4 + (64 << 20));
    reader.limits(allowed);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(too_large(name, limits));
    }
    if width.min(height) < Limits::SHORT_SIDE {
        let least = Limits::SHORT_SIDE;
        return Err(refuse(format!("{name} is {width}x{height}; its shorter side must have {least} pixels or more")));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((DynamicImage::from_decoder(decoder).map_err(damaged)?, orientation))
}

fn upright_on_white(mut picture: DynamicImage, orientation: Orientation) -> RgbImage {
    picture.apply_orientation(orientation);
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    let over_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u16::from(value), u16::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [r, g, b, a] = rgba.get_pixel(x, y).0;
        Rgb([over_white(r, a), over_white(g, a), over_white(b, a)])
    })
}

/// The JPEG decoder fills what is missing with grey, so the end-of-image marker is looked for here, after the start of the scan
/// (an EXIF thumbnail before it has a marker of its own).
fn ends_as_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        if marker == START_OF_SCAN {
            return bytes[at..].windows(2).any(|pair| pair == END_OF_IMAGE);
        }
        // Fill bytes may precede a marker.
        at += if marker == 0xff { 1 } else { 2 + usize::from(u16::from_be_bytes([high, low])) };
    }
    false
}

fn truncated(name: &str) -> crate::Error {
    refuse(format!("{name} ends too early, as after an interrupted download; fetch it again or leave it out"))
}

fn too_large(name: &str, limits: Limits) -> crate::Error {
    refuse(format!("{name} has too many pixels; at most {} million are allowed, so make it smaller", limits.pixels / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::RgbaImage;

    fn encoded(format: ImageFormat, picture: impl Into<DynamicImage>) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient() -> RgbImage {
        RgbImage::from_fn(96, 64, |x, y| Rgb([(x * 2) as u8, (y * 4) as u8, (x ^ y) as u8]))
    }

    #[test]
    fn a_picture_cut_short_is_refused_in_every_format() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
            let bytes = encoded(format, gradient());
            assert_eq!(decode("whole", &bytes, Limits::default()).unwrap().dimensions(), (96, 64));
            for share in [0.3, 0.6, 0.9] {
                let cut = &bytes[..(bytes.len() as f64 * share) as usize];
                let error = decode("half.x", cut, Limits::default()).unwrap_err().to_string();
                assert!(error.starts_with("half.x "), "{format:?} {share}: {error}");
            }
        }
    }

    #[test]
    fn transparency_lies_on_white() {
        let picture = RgbaImage::from_pixel(40, 40, image::Rgba([255, 0, 0, 0]));
        let decoded = decode("clear.png", &encoded(ImageFormat::Png, picture), Limits::default()).unwrap();
        assert_eq!(decoded.get_pixel(3, 3).0, [255, 255, 255]);
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let limits = Limits { pixels: 4000, ..Limits::default() };
        let error = decode("bomb.png", &encoded(ImageFormat::Png, gradient()), limits).unwrap_err().to_string();
        assert!(error.contains("too many pixels"), "{error}");
    }

    #[test]
    fn a_header_that_promises_terapixels_costs_no_memory() {
        let mut bytes = encoded(ImageFormat::Png, gradient());
        bytes[16..24].copy_from_slice(&[0x00, 0x10, 0, 0, 0x00, 0x10, 0, 0]);
        assert!(decode("liar.png", &bytes, Limits::default()).is_err());
    }

    /// Orientation 6: the camera was turned, the picture is shown a quarter turn clockwise.
    #[test]
    fn exif_orientation_is_applied() {
        let jpeg = encoded(ImageFormat::Jpeg, gradient());
        let exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut turned = vec![0xff, 0xd8, 0xff, 0xe1];
        turned.extend(((exif.len() + 2) as u16).to_be_bytes());
        turned.extend(exif);
        turned.extend(&jpeg[2..]);
        assert_eq!(decode("turned.jpg", &turned, Limits::default()).unwrap().dimensions(), (64, 96));
    }
}
