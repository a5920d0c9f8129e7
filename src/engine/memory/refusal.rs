//! Work that cannot fit is refused before it begins, with what would fit.

use super::{Bytes, Peak, Placement, Sizes, Task, Workload, choose_checkpointing, placements};
use crate::{Error, Precision, Result, transformer::Checkpointing};

/// Memory of the cards that people have, in GiB.
pub const CARDS: [u64; 4] = [16, 24, 48, 80];

/// Share of a card's memory that is left for tensors: the driver, its context and the desktop take the rest.
const USABLE: f64 = 0.93;

/// Refuses what needs more than `free` bytes of the GPU, weights included, even with everything evicted that can be.
pub fn check(sizes: &Sizes, placement: Placement, workload: &Workload, free: u64) -> Result<()> {
    let needed = Peak::of(sizes, placement, workload).least();
    if needed <= free {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{} needs about {} of GPU memory, and {} can be used; {}",
        described(placement.precision, workload),
        Bytes(needed),
        Bytes(free),
        what_would_fit(sizes, placement, workload)
    )))
}

/// `a picture of 1024x1024 in bf16`, `training at 512x768 in nf4 without checkpointing`.
fn described(precision: Precision, workload: &Workload) -> String {
    let Workload { size, batch, .. } = *workload;
    match (&workload.task, batch) {
        (Task::Generate, 1) => format!("a picture of {size} in {precision}"),
        (Task::Generate, _) => format!("{batch} pictures of {size} at once in {precision}"),
        (Task::Train(training), 1) => format!("training at {size} in {precision} {}", policy(training.checkpointing)),
        (Task::Train(training), _) => {
            format!("training at {size} with batches of {batch} in {precision} {}", policy(training.checkpointing))
        }
    }
}

fn policy(checkpointing: Checkpointing) -> &'static str {
    match checkpointing {
        Checkpointing::None => "without checkpointing",
        Checkpointing::Smart => "with smart checkpointing",
        Checkpointing::Full => "with full checkpointing",
    }
}

/// The same work on each kind of card, in the most exact way that fits it.
fn what_would_fit(sizes: &Sizes, placement: Placement, workload: &Workload) -> String {
    let on = |card: u64| {
        let way = way_to_fit(sizes, workload, (USABLE * (card << 30) as f64) as u64);
        format!("{card} GB: {}", way.unwrap_or_else(|| "nothing".into()))
    };
    let ways = CARDS.map(on).join(", ");
    let smaller = if placement.precision == Precision::Nf4 { "; a smaller size or batch needs less" } else { "" };
    format!("what fits on cards of {ways}{smaller}")
}

fn way_to_fit(sizes: &Sizes, workload: &Workload, usable: u64) -> Option<String> {
    let fits = |placement: Placement| match &workload.task {
        Task::Generate => (Peak::of(sizes, placement, workload).least() <= usable).then(|| placement.precision.to_string()),
        Task::Train(_) => choose_checkpointing(sizes, placement, workload, usable)
            .map(|checkpointing| format!("{} {}", placement.precision, policy(checkpointing))),
    };
    placements(None, true).find_map(fits)
}
