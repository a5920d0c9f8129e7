//! Rotary tables of one picture size and text length.

use crate::{Result, Size, ops::Rope};
use candle_core::Device;
use std::sync::{Mutex, PoisonError};

#[derive(Clone)]
pub struct Positions {
    /// Text first.
    pub rope: Rope,
    pub text_tokens: usize,
}

/// The tables of the last call: a sampling asks for the same ones at every step.
#[derive(Default)]
pub struct PositionsCache(Mutex<Option<((usize, Size), Positions)>>);

impl PositionsCache {
    pub fn get(&self, text_tokens: usize, size: Size, axes: &[usize], device: &Device) -> Result<Positions> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*held {
            Some((key, positions)) if *key == (text_tokens, size) => Ok(positions.clone()),
            _ => {
                let positions = Positions { rope: Rope::new(text_tokens, size, axes, device)?, text_tokens };
                *held = Some(((text_tokens, size), positions.clone()));
                Ok(positions)
            }
        }
    }
}
