//! Rotary tables of one picture size and text length: text, picture, and both together.

use crate::{Result, Size, ops::Rope};
use candle_core::Device;
use std::sync::{Mutex, PoisonError};

#[derive(Clone)]
pub struct Positions {
    pub text: Rope,
    pub picture: Rope,
    /// Text first.
    pub joint: Rope,
    pub text_tokens: usize,
}

impl Positions {
    fn new(text_tokens: usize, size: Size, axes: &[usize], device: &Device) -> Result<Self> {
        let joint = Rope::new(text_tokens, size, axes, device)?;
        let part = |start: usize, tokens: usize| -> Result<Rope> {
            Ok(Rope { cos: joint.cos.narrow(0, start, tokens)?, sin: joint.sin.narrow(0, start, tokens)? })
        };
        Ok(Self { text: part(0, text_tokens)?, picture: part(text_tokens, size.tokens())?, joint, text_tokens })
    }
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
                let positions = Positions::new(text_tokens, size, axes, device)?;
                *held = Some(((text_tokens, size), positions.clone()));
                Ok(positions)
            }
        }
    }
}
