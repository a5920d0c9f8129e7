//! A labelled grid of pictures: one row a prompt and seed, one column an adapter.

use super::lettering::Lettering;
use anyhow::Result;
use image::{Rgb, RgbImage, imageops};

const PAPER: Rgb<u8> = Rgb([250, 246, 238]);
const INK: Rgb<u8> = Rgb([43, 38, 34]);
const FAINT: Rgb<u8> = Rgb([232, 225, 211]);

pub struct Grid {
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// Width and height of one picture.
    pub cell: (u32, u32),
}

pub struct Row {
    pub prompt: String,
    pub seed: u64,
    /// One a column; `None` where a stop came first.
    pub pictures: Vec<Option<RgbImage>>,
}

/// Every measure follows from the size of a picture.
struct Layout {
    lettering: Lettering,
    gap: u32,
    /// Width of the labels at the left.
    side: u32,
}

impl Layout {
    const HEAD_LINES: usize = 3;

    fn new((width, height): (u32, u32)) -> Result<Self> {
        // 64-pixel thumbnails need letters too; 1024-pixel pictures need letters that are seen beside them.
        let size = (width.max(height) as f32 / 15.0).clamp(16.0, 48.0);
        let lettering = Lettering::new(size)?;
        let gap = (size / 2.0) as u32;
        let side = (size * 10.0) as u32;
        Ok(Self { lettering, gap, side })
    }
}

impl Grid {
    pub fn draw(&self) -> Result<RgbImage> {
        let (width, height) = self.cell;
        let layout = Layout::new(self.cell)?;
        let left = layout.side + 2 * layout.gap;
        let heads: Vec<_> = self.columns.iter().map(|label| layout.lettering.wrap(label, width, Layout::HEAD_LINES)).collect();
        let head = heads.iter().map(Vec::len).max().unwrap_or(0) as u32 * layout.lettering.line_height();
        let top = head + 2 * layout.gap;
        // A row is high enough for its label: prompt on three lines at least, and the seed.
        let pitch = height.max(layout.lettering.line_height() * 4) + layout.gap;
        let columns = self.columns.len() as u32;
        let mut sheet = RgbImage::from_pixel(left + columns * (width + layout.gap), top + self.rows.len() as u32 * pitch, PAPER);
        for (column, lines) in heads.iter().enumerate() {
            let y = layout.gap + head - lines.len() as u32 * layout.lettering.line_height();
            layout.lettering.draw(&mut sheet, (left + column as u32 * (width + layout.gap), y), lines, INK);
        }
        for (index, row) in self.rows.iter().enumerate() {
            let y = top + index as u32 * pitch;
            row.draw_label(&mut sheet, &layout, y, pitch - layout.gap);
            for (column, picture) in row.pictures.iter().enumerate() {
                let x = left + column as u32 * (width + layout.gap);
                let blank = || RgbImage::from_pixel(width, height, FAINT);
                imageops::replace(&mut sheet, &picture.clone().unwrap_or_else(blank), x.into(), y.into());
            }
        }
        Ok(sheet)
    }
}

impl Row {
    fn draw_label(&self, sheet: &mut RgbImage, layout: &Layout, y: u32, height: u32) {
        let most = (height / layout.lettering.line_height()).max(2) as usize;
        let mut lines = layout.lettering.wrap(&self.prompt, layout.side, most - 1);
        lines.push(format!("seed {}", self.seed));
        layout.lettering.draw(sheet, (layout.gap, y), &lines, INK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_lie_side_by_side_below_their_labels() {
        let [red, blue] = [[200, 0, 0], [0, 0, 200]].map(|c| RgbImage::from_pixel(64, 96, Rgb(c)));
        let row = |seed| Row { prompt: "a lake ".repeat(40), seed, pictures: vec![Some(red.clone()), Some(blue.clone())] };
        let grid = Grid { columns: vec!["base".into(), "mucha × 0.8".into()], rows: vec![row(1), row(2)], cell: (64, 96) };
        let sheet = grid.draw().unwrap();
        let count = |c| sheet.pixels().filter(|pixel| pixel.0 == c).count();
        assert_eq!(count([200, 0, 0]), 2 * 64 * 96);
        assert_eq!(count([0, 0, 200]), 2 * 64 * 96);
        let dark = sheet.pixels().filter(|pixel| pixel.0.iter().all(|&channel| channel < 120)).count();
        assert!(dark > 100, "the labels are drawn");
    }
}
