//! Files that strangers bring, damaged byte by byte: each is read or refused, and nothing breaks.

use crate::tiny::path;
use candle_core::Device;
use engine::{Adapter, checkpoint::file};
use proptest::prelude::*;
use std::{fs, sync::LazyLock};

/// Heads of every kind of model file.
static MODELS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let names =
        ["gguf/types.gguf", "gguf/t5-Q8_0.gguf", "nf4_file.safetensors", "bnb_int8/transformer/diffusion_pytorch_model.safetensors"];
    names.iter().map(|name| fs::read(path(&format!("models/{name}"))).unwrap()).collect()
});

static ADAPTERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let names = ["diffusers", "kohya", "comfyui", "lokr", "loha", "lycoris_dora", "xlabs"];
    names.iter().map(|name| fs::read(path(&format!("adapters/{name}.safetensors"))).unwrap()).collect()
});

#[derive(Clone, Debug)]
enum Damage {
    Byte(usize, u8),
    Cut(usize),
    /// Eight bytes at once: a count or a length.
    Number(usize, u64),
    Doubled(usize, usize),
}

/// Mostly in the head, where it hurts.
fn damage() -> impl Strategy<Value = Damage> {
    let place = prop_oneof![4 => 0usize..64, 4 => 0usize..4096, 1 => 0usize..1 << 20];
    let number = prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63), Just(1 << 32), any::<u64>()];
    prop_oneof![
        8 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        1 => place.clone().prop_map(Damage::Cut),
        3 => (place.clone(), number).prop_map(|(at, number)| Damage::Number(at, number)),
        1 => (place, 1usize..200).prop_map(|(at, count)| Damage::Doubled(at, count)),
    ]
}

fn damaged(whole: &[u8], all: &[Damage]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for one in all {
        if bytes.is_empty() {
            break;
        }
        match *one {
            Damage::Byte(at, byte) => {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            Damage::Cut(at) => bytes.truncate(at % bytes.len()),
            Damage::Number(at, number) => {
                let at = at % bytes.len();
                let count = 8.min(bytes.len() - at);
                bytes[at..at + count].copy_from_slice(&number.to_le_bytes()[..count]);
            }
            Damage::Doubled(at, count) => {
                let at = at % bytes.len();
                let stretch = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, stretch);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn heads_of_model_files(which in 0usize..4, all in prop::collection::vec(damage(), 1..6)) {
        let bytes = damaged(&MODELS[which], &all);
        if let Ok(head) = file::parse(&bytes) {
            for (key, entry) in head.entries {
                prop_assert!(entry.bytes.start <= entry.bytes.end && entry.bytes.end <= bytes.len(), "{key}");
            }
        }
    }

    #[test]
    fn adapters(which in 0usize..7, all in prop::collection::vec(damage(), 1..6)) {
        if let Err(error) = Adapter::from_bytes("damaged", &damaged(&ADAPTERS[which], &all), &Device::Cpu) {
            prop_assert!(error.to_string().starts_with("adapter damaged: "));
        }
    }
}
