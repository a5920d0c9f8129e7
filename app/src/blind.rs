//! A blind round: every pair of base and adapter once, in an order and on sides that nobody can guess, yet the same after a reload.

use crate::api::{ApiError, ApiResult, Comparison, PictureId, Vote};

/// One pair to judge.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    pub seed: u64,
    pub scale: f64,
    pub base: PictureId,
    pub adapted: PictureId,
    pub adapter_first: bool,
}

impl Round {
    /// The two pictures as they are shown.
    pub fn pictures(&self) -> [&PictureId; 2] {
        if self.adapter_first { [&self.adapted, &self.base] } else { [&self.base, &self.adapted] }
    }
}

/// The rounds of a comparison, in order.
pub fn rounds(comparison: &Comparison) -> Vec<Round> {
    let mut keyed: Vec<_> = pairs(comparison)
        .map(|(seed, scale, base, adapted)| {
            let key = draw(&comparison.id.0, seed, scale);
            (key, Round { seed, scale, base, adapted, adapter_first: key & 1 == 1 })
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, round)| round).collect()
}

/// The vote that a choice in round `number` (counted from 1) stands for.
pub fn vote(comparison: &Comparison, number: usize, choice: &str) -> ApiResult<Vote> {
    let no_round = || ApiError::new(404, "There is no such round in this comparison: open it again and start from the first.");
    let round = number.checked_sub(1).and_then(|index| rounds(comparison).into_iter().nth(index)).ok_or_else(no_round)?;
    let adapter_won = match choice {
        "first" => Some(round.adapter_first),
        "second" => Some(!round.adapter_first),
        "neither" => None,
        _ => return Err(ApiError::new(422, "Choose the first picture, the second, or neither.")),
    };
    Ok(Vote { comparison: comparison.id.clone(), seed: round.seed, scale: round.scale, adapter_won })
}

/// Base and adapter of the same seed, where both are drawn.
fn pairs(comparison: &Comparison) -> impl Iterator<Item = (u64, f64, PictureId, PictureId)> {
    let base_of = |seed| comparison.cells.iter().find(|cell| cell.seed == seed && cell.scale == 0.0)?.picture.clone();
    comparison.cells.iter().filter(|cell| cell.scale != 0.0).filter_map(move |cell| {
        let (base, adapted) = (base_of(cell.seed)?, cell.picture.clone()?);
        Some((cell.seed, cell.scale, base, adapted))
    })
}

/// An even draw from the comparison's own random name: FNV-1a, then the finaliser of SplitMix64 to spread its weak low bits.
fn draw(id: &str, seed: u64, scale: f64) -> u64 {
    let bytes = id.bytes().chain(seed.to_le_bytes()).chain(scale.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AdapterId, CompareRequest, ComparisonCell, ComparisonId, Progress, Run, RunId, RunKind, RunState};

    fn comparison(id: &str) -> Comparison {
        let cell = |seed, scale| ComparisonCell { seed, scale, picture: Some(PictureId(format!("{seed}-{scale}"))) };
        Comparison {
            id: ComparisonId(id.into()),
            request: CompareRequest {
                prompt: "sea".into(),
                adapter: AdapterId("a".into()),
                scales: vec![0.5, 1.0],
                width: 256,
                height: 256,
                steps: 20,
                guidance: 3.5,
                seed: Some(7),
                count: 2,
            },
            adapter_name: "A".into(),
            seed: 7,
            run: Run {
                id: RunId("r".into()),
                kind: RunKind::Compare,
                state: RunState::Done,
                title: String::new(),
                progress: Progress::default(),
                error: None,
                pictures: Vec::new(),
                comparison: None,
                created_at: 0,
                finished_at: None,
            },
            cells: [7, 8].into_iter().flat_map(|seed| [0.0, 0.5, 1.0].map(|scale| cell(seed, scale))).collect(),
            created_at: 0,
        }
    }

    #[test]
    fn every_pair_once_and_the_same_after_a_reload() {
        let rounds = rounds(&comparison("c1"));
        let mut pairs: Vec<_> = rounds.iter().map(|round| (round.seed, round.scale.to_string())).collect();
        pairs.sort();
        assert_eq!(pairs, [(7, "0.5".into()), (7, "1".into()), (8, "0.5".into()), (8, "1".into())]);
        assert_eq!(rounds, super::rounds(&comparison("c1")));
    }

    #[test]
    fn sides_are_drawn_evenly() {
        let firsts: usize =
            (0..500).map(|index| rounds(&comparison(&format!("c{index}"))).iter().filter(|round| round.adapter_first).count()).sum();
        assert!((900..1100).contains(&firsts), "{firsts} of 2000");
    }

    #[test]
    fn a_missing_picture_takes_its_pair_out() {
        let mut drawn = comparison("c1");
        drawn.cells[0].picture = None;
        assert!(rounds(&drawn).iter().all(|round| round.seed == 8));
    }

    #[test]
    fn the_vote_names_the_adapter_whatever_its_side() {
        let drawn = comparison("c1");
        for (index, round) in rounds(&drawn).iter().enumerate() {
            let adapters_side = if round.adapter_first { "first" } else { "second" };
            assert_eq!(vote(&drawn, index + 1, adapters_side).unwrap().adapter_won, Some(true));
            assert_eq!(vote(&drawn, index + 1, "neither").unwrap().adapter_won, None);
        }
        assert_eq!(vote(&drawn, 0, "first").unwrap_err().status, 404);
        assert_eq!(vote(&drawn, 5, "first").unwrap_err().status, 404);
        assert_eq!(vote(&drawn, 1, "third").unwrap_err().status, 422);
    }
}
