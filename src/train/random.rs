//! Every random number of a run comes from a key, never from a generator that runs on: a resumed run draws what an uninterrupted one would.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

/// What a draw is for. Two purposes never share numbers.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Crop,
    Order,
    Init,
    Posterior,
    Noise,
    Timestep,
    Flip,
    CaptionDropout,
}

/// The generator of `(seed, purpose, key)`; `key` is a step, a row, an image hash, a module path, one part after the other.
pub fn keyed(seed: u64, purpose: Purpose, key: &[&dyn std::fmt::Display]) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(format!("{seed}/{purpose:?}"));
    for part in key {
        hash.update(format!("/{part}"));
    }
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// `count` standard normal numbers.
pub fn normal(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    StandardNormal.sample_iter(rng).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn a_key_is_its_whole_path() {
        let first = |key: &[&dyn std::fmt::Display]| keyed(7, Purpose::Noise, key).random::<u64>();
        assert_eq!(first(&[&1, &2]), first(&[&1, &2]));
        assert_ne!(first(&[&1, &2]), first(&[&12]));
        assert_ne!(first(&[&1]), keyed(7, Purpose::Timestep, &[&1]).random::<u64>());
        assert_ne!(first(&[&1]), keyed(8, Purpose::Noise, &[&1]).random::<u64>());
    }
}
