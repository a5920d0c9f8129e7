//! Which pictures each micro-batch sees: every epoch a fresh shuffle, batches of one size, all drawn from (seed, epoch).

use crate::random::{self, Purpose};
use engine::Size;
use rand::seq::SliceRandom;
use std::collections::BTreeMap;

/// The endless sequence of micro-batches as a pure function of its index.
pub struct Order {
    seed: u64,
    batch_size: usize,
    /// Items by the size they are trained at: a batch is one tensor.
    groups: Vec<Vec<usize>>,
}

impl Order {
    /// `sizes[i]` is the training size of item `i`.
    pub fn new(seed: u64, batch_size: usize, sizes: &[Size]) -> Self {
        let mut groups: BTreeMap<Size, Vec<usize>> = BTreeMap::new();
        for (item, size) in sizes.iter().enumerate() {
            groups.entry(*size).or_default().push(item);
        }
        Self { seed, batch_size, groups: groups.into_values().collect() }
    }

    /// The items of micro-batch `index` of the run. Always `batch_size` of them: the last batch of a size is filled up from its
    /// beginning (the same picture twice still sees two noises).
    pub fn batch(&self, index: usize) -> Vec<usize> {
        let (epoch, within) = (index / self.batches_per_epoch(), index % self.batches_per_epoch());
        self.epoch(epoch).swap_remove(within)
    }

    pub fn batches_per_epoch(&self) -> usize {
        self.groups.iter().map(|group| group.len().div_ceil(self.batch_size)).sum()
    }

    fn epoch(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut rng = random::keyed(self.seed, Purpose::Order, &[&epoch]);
        let mut batches = Vec::new();
        for group in &self.groups {
            let mut group = group.clone();
            group.shuffle(&mut rng);
            let round = group.len().next_multiple_of(self.batch_size);
            let filled: Vec<_> = group.into_iter().cycle().take(round).collect();
            batches.extend(filled.chunks(self.batch_size).map(<[usize]>::to_vec));
        }
        batches.shuffle(&mut rng);
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn an_epoch_shows_every_item_and_batches_have_one_size(
            kinds in prop::collection::vec(0usize..3, 1..40), batch_size in 1usize..6, seed in 0u64..9, epoch in 0usize..4,
        ) {
            let sizes: Vec<_> = kinds.iter().map(|kind| Size::new(64 + 16 * kind, 64).unwrap()).collect();
            let order = Order::new(seed, batch_size, &sizes);
            let per_epoch = order.batches_per_epoch();
            let mut seen = BTreeSet::new();
            for index in epoch * per_epoch..(epoch + 1) * per_epoch {
                let batch = order.batch(index);
                prop_assert_eq!(batch.len(), batch_size);
                prop_assert!(batch.iter().all(|&item| sizes[item] == sizes[batch[0]]));
                seen.extend(batch);
            }
            prop_assert_eq!(seen.len(), sizes.len());
        }
    }

    #[test]
    fn epochs_differ_and_seeds_differ() {
        let sizes = vec![Size::new(64, 64).unwrap(); 30];
        let first = |seed, epoch: usize| (0..30).map(|i| Order::new(seed, 1, &sizes).batch(epoch * 30 + i)[0]).collect::<Vec<_>>();
        assert_ne!(first(0, 0), first(0, 1));
        assert_ne!(first(0, 0), first(1, 0));
        assert_eq!(first(0, 1), first(0, 1));
    }
}
