//! Limits that the forms and the server both read.

pub const MAX_PROMPT_CHARS: usize = 4000;
pub const MAX_CAPTION_CHARS: usize = 2000;
pub const MAX_NAME_CHARS: usize = 80;
pub const MAX_STEPS: u32 = 100;
pub const MAX_COUNT: u32 = 4;
pub const MAX_ADAPTERS: usize = 4;
pub const MAX_GUIDANCE: f64 = 20.0;
/// Strength of an adapter, either way.
pub const MAX_SCALE: f64 = 2.0;
pub const MAX_UPLOAD_BYTES: u64 = 512 << 20;
pub const MAX_PICTURE_BYTES: u64 = 50 << 20;
pub const MAX_DATASET_PICTURES: usize = 200;
pub const MAX_TRAIN_STEPS: u32 = 20_000;
pub const MAX_RANK: u32 = 128;
/// Of a published card.
pub const MAX_CARD_PICTURES: usize = 12;
/// Whose the training pictures are, said in so many characters.
pub const MAX_RIGHTS_CHARS: usize = 500;
/// Sides of a picture, in pixels; multiples of 16.
pub const MAX_SIDE: u32 = 2048;
/// Seeds are whole numbers that TOML and SQLite can hold too.
pub const MAX_SEED: u64 = i64::MAX as u64;
