//! TensorBoard event files: scalars and pictures as hand-encoded protocol buffers in TFRecord frames.
//!
//! Field numbers: tensorflow `core/util/event.proto` and `core/framework/summary.proto`.

use crate::Result;
use image::{ImageFormat, RgbImage};
use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// One event file of a run. A resumed run begins another, which TensorBoard reads after the first.
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Begins a file in `folder`. Everything that earlier files say about `first_step` and later is thereby withdrawn.
    pub fn create(folder: &Path, first_step: usize) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let mut file = Self { file: fresh_file(folder)? };
        file.record(&event(0, field_bytes(3, b"brain.Event:2")))?;
        if first_step > 1 {
            const START: u64 = 1;
            file.record(&event(first_step, field_bytes(7, &field_varint(1, START))))?;
        }
        Ok(file)
    }

    pub fn scalars(&mut self, step: usize, values: &[(&str, f64)]) -> Result<()> {
        let values: Vec<u8> = values
            .iter()
            .flat_map(|(tag, value)| {
                let value = [field_bytes(1, tag.as_bytes()), field_f32(2, *value as f32)].concat();
                field_bytes(1, &value)
            })
            .collect();
        self.record(&event(step, field_bytes(5, &values)))
    }

    pub fn picture(&mut self, step: usize, tag: &str, picture: &RgbImage) -> Result<()> {
        const RGB: u64 = 3;
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png).map_err(std::io::Error::other)?;
        let (width, height) = picture.dimensions();
        let picture =
            [field_varint(1, u64::from(height)), field_varint(2, u64::from(width)), field_varint(3, RGB), field_bytes(4, png.get_ref())];
        let value = [field_bytes(1, tag.as_bytes()), field_bytes(4, &picture.concat())].concat();
        self.record(&event(step, field_bytes(5, &field_bytes(1, &value))))
    }

    /// Length, its checksum, the bytes, their checksum.
    fn record(&mut self, bytes: &[u8]) -> Result<()> {
        let length = (bytes.len() as u64).to_le_bytes();
        let frame = [&length[..], &masked_crc(&length), bytes, &masked_crc(bytes)].concat();
        // One write: a reader never sees half a record for long.
        Ok(self.file.write_all(&frame)?)
    }
}

/// TensorBoard reads the files of a folder in the order of their names, so the time leads.
fn fresh_file(folder: &Path) -> Result<File> {
    let mut seconds = now() as u64;
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds:010}.atelier"));
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => seconds += 1,
            file => return Ok(file?),
        }
    }
}

fn event(step: usize, what: Vec<u8>) -> Vec<u8> {
    [field_f64(1, now()), field_varint(2, step as u64), what].concat()
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The TFRecord mask keeps a checksum of data that holds checksums from looking like one.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

fn field_varint(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3 | VARINT), varint(value)].concat()
}

fn field_f64(number: u64, value: f64) -> Vec<u8> {
    [varint(number << 3 | FIXED64), value.to_le_bytes().to_vec()].concat()
}

fn field_f32(number: u64, value: f32) -> Vec<u8> {
    [varint(number << 3 | FIXED32), value.to_le_bytes().to_vec()].concat()
}

fn field_bytes(number: u64, bytes: &[u8]) -> Vec<u8> {
    [&varint(number << 3 | LENGTH)[..], &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
        let (mut rest, mut records) = (bytes, Vec::new());
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked_crc(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked_crc(data));
            records.push(data.to_vec());
            rest = &rest[16 + length..];
        }
        records
    }

    /// (number, payload) of each field of a message; numbers come as their little-endian bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn take_varint(bytes: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            value
        }
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = take_varint(&mut bytes);
            let length = match key & 7 {
                VARINT => {
                    fields.push((key >> 3, take_varint(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                FIXED64 => 8,
                FIXED32 => 4,
                _ => take_varint(&mut bytes) as usize,
            };
            fields.push((key >> 3, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        fields
    }

    fn field(message: &[u8], number: u64) -> Vec<u8> {
        fields(message).into_iter().find(|(n, _)| *n == number).unwrap_or_else(|| panic!("no field {number}")).1
    }

    #[test]
    fn records_decode_to_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 301).unwrap();
        events.scalars(301, &[("loss", 0.25), ("learning_rate", 1e-3)]).unwrap();
        let red = RgbImage::from_pixel(3, 2, image::Rgb([200, 0, 0]));
        events.picture(301, "sample/0", &red).unwrap();
        let path = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
        let records = records(&fs::read(path).unwrap());
        assert_eq!(records.len(), 4);

        assert_eq!(field(&records[0], 3), b"brain.Event:2");
        assert_eq!(field(&records[1], 2)[..2], 301u16.to_le_bytes());
        let values = fields(&field(&records[2], 5));
        assert_eq!(field(&values[0].1, 1), b"loss");
        assert_eq!(field(&values[0].1, 2), 0.25f32.to_le_bytes());
        assert_eq!(field(&values[1].1, 1), b"learning_rate");
        let picture = field(&field(&field(&records[3], 5), 1), 4);
        assert_eq!((field(&picture, 1)[0], field(&picture, 2)[0]), (2, 3));
        assert_eq!(image::load_from_memory(&field(&picture, 4)).unwrap().into_rgb8(), red);
    }

    #[test]
    fn crc_mask_is_tfrecords() {
        // CRC-32C of "123456789" is e3069283; masked by hand.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(u32::from_le_bytes(masked_crc(b"123456789")), (0xe306_9283u32 >> 15 | 0xe306_9283u32 << 17).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn a_second_file_comes_after_the_first() {
        let folder = tempfile::tempdir().unwrap();
        EventFile::create(folder.path(), 1).unwrap();
        EventFile::create(folder.path(), 4).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
