//! Keys that are told once: random, and kept as a hash. 256 random bits need no salt and no slow hash.

use sha2::{Digest, Sha256};

/// 64 hexadecimal digits, from a generator for keys.
pub fn random() -> String {
    hex(&rand::random::<[u8; 32]>())
}

/// What is kept of a key.
pub fn hash(key: &str) -> String {
    hex(&Sha256::digest(key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
