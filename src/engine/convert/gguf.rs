//! The head of a GGUF file that is written.
//!
//! ggml `docs/gguf.md`.

use super::{
    Form,
    encode::{Kind, Slot},
};
use candle_core::quantized::GgmlDType;

pub const ALIGNMENT: usize = 32;

pub fn head(slots: &[Slot], form: Form) -> Vec<u8> {
    let mut head = Vec::new();
    head.extend(b"GGUF");
    head.extend(3u32.to_le_bytes());
    head.extend((slots.len() as u64).to_le_bytes());
    head.extend(3u64.to_le_bytes());
    text_value(&mut head, "general.architecture", "flux");
    number_value(&mut head, "general.quantization_version", 2);
    number_value(&mut head, "general.file_type", file_type(form));
    let mut offset = 0;
    for slot in slots {
        text(&mut head, &slot.key);
        // A number of its own has one dimension here, and columns come first.
        let shape: Vec<usize> = if slot.shape.is_empty() { vec![1] } else { slot.shape.iter().rev().copied().collect() };
        head.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|n| head.extend((*n as u64).to_le_bytes()));
        head.extend(type_number(slot.kind).to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += slot.bytes().next_multiple_of(ALIGNMENT);
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    head
}

fn text(head: &mut Vec<u8>, text: &str) {
    head.extend((text.len() as u64).to_le_bytes());
    head.extend(text.as_bytes());
}

fn text_value(head: &mut Vec<u8>, key: &str, value: &str) {
    text(head, key);
    head.extend(8u32.to_le_bytes());
    text(head, value);
}

fn number_value(head: &mut Vec<u8>, key: &str, value: u32) {
    text(head, key);
    head.extend(4u32.to_le_bytes());
    head.extend(value.to_le_bytes());
}

/// `ggml_type`
fn type_number(kind: Kind) -> u32 {
    match kind {
        Kind::Blocks(GgmlDType::F16) => 1,
        Kind::Blocks(GgmlDType::Q4_0) => 2,
        Kind::Blocks(GgmlDType::Q5_0) => 6,
        Kind::Blocks(GgmlDType::Q8_0) => 8,
        Kind::Blocks(GgmlDType::Q4K) => 12,
        Kind::Blocks(GgmlDType::Q5K) => 13,
        Kind::Blocks(GgmlDType::Q6K) => 14,
        _ => 0,
    }
}

/// `llama_ftype`, for those who show it.
fn file_type(form: Form) -> u32 {
    match form {
        Form::Gguf(GgmlDType::F16) => 1,
        Form::Gguf(GgmlDType::Q4_0) => 2,
        Form::Gguf(GgmlDType::Q8_0) => 7,
        Form::Gguf(GgmlDType::Q5_0) => 8,
        Form::Gguf(GgmlDType::Q4K) => 15,
        Form::Gguf(GgmlDType::Q5K) => 17,
        Form::Gguf(GgmlDType::Q6K) => 18,
        _ => 0,
    }
}
