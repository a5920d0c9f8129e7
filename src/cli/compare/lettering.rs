//! Words on a picture: measured, wrapped, cut with an ellipsis, drawn.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use anyhow::{Context, Result};
use image::{Rgb, RgbImage};

/// Linux Libertine by Philipp H. Poll (SIL Open Font License, beside it): Latin, Greek, Cyrillic, and figures that cannot be taken for letters.
const FONT: &[u8] = include_bytes!("LinLibertine_R.otf");
const ELLIPSIS: &str = "…";

pub struct Lettering {
    font: FontRef<'static>,
    scale: PxScale,
}

impl Lettering {
    /// `size`: pixels from line to line.
    pub fn new(size: f32) -> Result<Self> {
        let font = FontRef::try_from_slice(FONT).context("the built-in font cannot be read")?;
        Ok(Self { font, scale: PxScale::from(size) })
    }

    pub fn line_height(&self) -> u32 {
        self.font.as_scaled(self.scale).height().ceil() as u32
    }

    /// Glyphs on one line from x = 0, and where the line ends.
    fn line(&self, text: &str) -> (Vec<Glyph>, f32) {
        let font = self.font.as_scaled(self.scale);
        let mut glyphs: Vec<Glyph> = Vec::new();
        let mut x = 0.0;
        for character in text.chars() {
            let id = font.glyph_id(character);
            x += glyphs.last().map_or(0.0, |last| font.kern(last.id, id));
            glyphs.push(id.with_scale_and_position(self.scale, point(x, font.ascent())));
            x += font.h_advance(id);
        }
        (glyphs, x)
    }

    fn fits(&self, text: &str, width: u32) -> bool {
        self.line(text).1 <= width as f32
    }

    /// Lines of at most `width` pixels; what `most` lines cannot hold is cut and ends in `…`.
    pub fn wrap(&self, text: &str, width: u32, most: usize) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut rest = text.split_whitespace().collect::<Vec<_>>().join(" ");
        while !rest.is_empty() && lines.len() < most {
            let end = self.line_end(&rest, width);
            lines.push(rest[..end].trim_end().to_owned());
            rest = rest[end..].trim_start().to_owned();
        }
        if !rest.is_empty()
            && let Some(last) = lines.last_mut()
        {
            while !last.is_empty() && !self.fits(&format!("{last}{ELLIPSIS}"), width) {
                last.pop();
            }
            *last = format!("{}{ELLIPSIS}", last.trim_end());
        }
        lines
    }

    /// Where the first line of `text` ends: before a word that no longer fits, or inside a word longer than the line.
    fn line_end(&self, text: &str, width: u32) -> usize {
        let words = text.match_indices(' ').map(|(at, _)| at).chain([text.len()]);
        let whole = words.take_while(|&end| self.fits(&text[..end], width)).last();
        whole.unwrap_or_else(|| {
            let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
            let first = text.chars().next().map_or(0, char::len_utf8);
            ends.take_while(|&end| self.fits(&text[..end], width)).last().unwrap_or(first)
        })
    }

    /// Draws lines with their top left corner at (x, y).
    pub fn draw(&self, picture: &mut RgbImage, (x, y): (u32, u32), lines: &[String], ink: Rgb<u8>) {
        for (i, line) in lines.iter().enumerate() {
            let top = y + i as u32 * self.line_height();
            for glyph in self.line(line).0 {
                self.draw_glyph(picture, (x, top), glyph, ink);
            }
        }
    }

    fn draw_glyph(&self, picture: &mut RgbImage, (x, y): (u32, u32), glyph: Glyph, ink: Rgb<u8>) {
        let Some(outline) = self.font.outline_glyph(glyph) else { return };
        let corner = outline.px_bounds().min;
        outline.draw(|dx, dy, coverage| {
            let (px, py) = (x as f32 + corner.x + dx as f32, y as f32 + corner.y + dy as f32);
            let Some(pixel) = picture.get_pixel_mut_checked(px.max(0.0) as u32, py.max(0.0) as u32) else { return };
            for (channel, ink) in pixel.0.iter_mut().zip(ink.0) {
                *channel = (*channel as f32 + (ink as f32 - *channel as f32) * coverage.clamp(0.0, 1.0)).round() as u8;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_width_and_lose_nothing() {
        let lettering = Lettering::new(18.0).unwrap();
        let prompt = "a woman in profile with a wreath of lilies, art nouveau panel";
        let lines = lettering.wrap(prompt, 120, 20);
        assert!(lines.len() > 2 && lines.iter().all(|line| lettering.fits(line, 120)), "{lines:?}");
        assert_eq!(lines.join(" "), prompt);
    }

    #[test]
    fn what_does_not_fit_ends_in_an_ellipsis() {
        let lettering = Lettering::new(18.0).unwrap();
        for text in [&"lily ".repeat(500), &"x".repeat(500), &"日本🚀".repeat(100)] {
            let lines = lettering.wrap(text, 90, 3);
            assert_eq!(lines.len(), 3);
            assert!(lines[2].ends_with(ELLIPSIS) && lines.iter().all(|line| lettering.fits(line, 90)), "{lines:?}");
        }
        assert!(lettering.wrap("  ", 90, 3).is_empty());
        assert_eq!(lettering.wrap("wide", 1, 9).len(), 4);
    }

    #[test]
    fn drawing_leaves_ink_and_stays_inside() {
        let lettering = Lettering::new(18.0).unwrap();
        let mut picture = RgbImage::from_pixel(40, 20, Rgb([255; 3]));
        lettering.draw(&mut picture, (2, 0), &["Mucha and much more".into()], Rgb([0; 3]));
        assert!(picture.pixels().any(|pixel| pixel.0[0] < 60));
    }
}
