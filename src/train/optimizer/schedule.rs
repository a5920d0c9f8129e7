//! The learning rate of each step (diffusers' `get_scheduler`: warm-up, then constant, linear or cosine).

use crate::recipe::{Recipe, Schedule};
use std::f64::consts::PI;

/// The rate of a step, which counts from 1.
pub fn learning_rate(recipe: &Recipe, step: usize) -> f64 {
    recipe.learning_rate * factor(recipe.schedule, step - 1, recipe.warmup_steps, recipe.steps)
}

/// `done` steps lie behind; as in diffusers the first warm-up step has rate 0.
fn factor(schedule: Schedule, done: usize, warmup: usize, steps: usize) -> f64 {
    if done < warmup {
        return done as f64 / warmup as f64;
    }
    let span = steps.saturating_sub(warmup).max(1) as f64;
    let progress = (done - warmup) as f64 / span;
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => (1.0 - progress).max(0.0),
        Schedule::Cosine => (0.5 * (1.0 + (PI * progress).cos())).max(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_those_of_get_scheduler() {
        // diffusers: cosine, 10 warm-up of 110 steps, after 60 steps: 0.5·(1 + cos(π/2)); linear: (110 - 60) / 100.
        assert_eq!(factor(Schedule::Cosine, 5, 10, 110), 0.5);
        assert!((factor(Schedule::Cosine, 60, 10, 110) - 0.5).abs() < 1e-12);
        assert!((factor(Schedule::Linear, 60, 10, 110) - 0.5).abs() < 1e-12);
        assert_eq!(factor(Schedule::Constant, 60, 10, 110), 1.0);
        assert_eq!(factor(Schedule::Constant, 0, 0, 110), 1.0);
    }

    proptest! {
        #[test]
        fn rates_stay_in_range_and_fall_after_warm_up(steps in 1usize..500, share in 0.0f64..=1.0) {
            let warmup = (steps as f64 * share) as usize;
            for schedule in [Schedule::Constant, Schedule::Linear, Schedule::Cosine] {
                let factors: Vec<_> = (0..steps).map(|done| factor(schedule, done, warmup, steps)).collect();
                prop_assert!(factors.iter().all(|f| (0.0..=1.0).contains(f)));
                prop_assert!(factors[warmup.min(steps)..].is_sorted_by(|a, b| a >= b));
            }
        }
    }
}
