//! A run as it happens: the page's copy of it, kept true by the server-sent events of `/events/{run}`.

use crate::api::{Event, LossPoint, Picture, Run, Sample, TrainingDetail};
use crate::calls::runs::RunView;
use leptos::prelude::*;
use std::collections::BTreeMap;

#[cfg(feature = "hydrate")]
mod source;

/// What the page knows of a run. Starts from what the server rendered; every event moves it on.
#[derive(Clone, Copy)]
pub struct Feed {
    pub run: RwSignal<Run>,
    /// Pictures in the making by their place in the batch, as `data:` URLs.
    pub previews: RwSignal<BTreeMap<u32, String>>,
    pub pictures: RwSignal<Vec<Picture>>,
    pub losses: RwSignal<Vec<LossPoint>>,
    pub samples: RwSignal<Vec<Sample>>,
    pub link: RwSignal<Link>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Live,
    /// The connection broke and is being tried again.
    Lost,
    /// The server no longer knows the run.
    Gone,
}

impl Feed {
    pub fn of_run(view: RunView) -> Self {
        Self::start(view.run, view.pictures, Vec::new(), Vec::new())
    }

    pub fn of_training(detail: &TrainingDetail) -> Self {
        Self::start(detail.run.clone(), Vec::new(), detail.losses.clone(), detail.samples.clone())
    }

    fn start(run: Run, pictures: Vec<Picture>, losses: Vec<LossPoint>, samples: Vec<Sample>) -> Self {
        let feed = Self {
            run: RwSignal::new(run),
            previews: RwSignal::default(),
            pictures: RwSignal::new(pictures),
            losses: RwSignal::new(losses),
            samples: RwSignal::new(samples),
            link: RwSignal::new(Link::Live),
        };
        #[cfg(feature = "hydrate")]
        source::follow(feed);
        feed
    }

    pub fn is_active(&self) -> bool {
        self.run.with(|run| run.state.is_active())
    }

    /// An event may come twice, around a lost connection: each is known by its picture, step or address.
    #[cfg_attr(not(feature = "hydrate"), allow(dead_code, reason = "only the browser hears events"))]
    fn apply(&self, event: Event) {
        match event {
            Event::Snapshot { run } => self.run.set(run),
            Event::Preview { index, data_url, .. } => self.previews.update(|previews| {
                previews.insert(index, data_url);
            }),
            Event::Picture { picture } => self.add_pictures(vec![*picture]),
            Event::Loss { point } => self.add_losses(vec![point]),
            Event::Sample { sample } => self.add_samples(vec![sample]),
        }
    }

    fn add_pictures(&self, new: Vec<Picture>) {
        self.pictures.update(|pictures| {
            let known = |picture: &Picture| pictures.iter().any(|old| old.id == picture.id);
            let fresh: Vec<_> = new.into_iter().filter(|picture| !known(picture)).collect();
            pictures.extend(fresh);
        });
    }

    fn add_losses(&self, new: Vec<LossPoint>) {
        self.losses.update(|losses| {
            losses.extend(new);
            losses.sort_by_key(|point| point.step);
            losses.dedup_by_key(|point| point.step);
        });
    }

    fn add_samples(&self, new: Vec<Sample>) {
        self.samples.update(|samples| {
            samples.retain(|old| !new.iter().any(|sample| sample.url == old.url));
            samples.extend(new);
            samples.sort_by_key(|sample| sample.step);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Progress, RunId, RunKind, RunState};

    fn feed() -> Feed {
        let run = Run {
            id: RunId("r".into()),
            kind: RunKind::Train,
            state: RunState::Running,
            title: String::new(),
            progress: Progress::default(),
            error: None,
            pictures: Vec::new(),
            comparison: None,
            created_at: 0,
            finished_at: None,
        };
        Feed::of_run(RunView { run, pictures: Vec::new() })
    }

    fn loss(step: u32) -> Event {
        Event::Loss { point: LossPoint { step, loss: 1.0, learning_rate: 1e-3, gradient_norm: 0.1 } }
    }

    #[test]
    fn events_heard_twice_count_once_and_stand_in_order() {
        let owner = Owner::new();
        owner.with(|| {
            let feed = feed();
            for step in [1, 2, 4, 3, 2] {
                feed.apply(loss(step));
            }
            let steps: Vec<_> = feed.losses.get_untracked().iter().map(|point| point.step).collect();
            assert_eq!(steps, [1, 2, 3, 4]);
            let sample = Sample { step: 50, prompt: "a lake".into(), url: "/files/runs/r/samples/50.png".into() };
            feed.apply(Event::Sample { sample: sample.clone() });
            feed.apply(Event::Sample { sample });
            assert_eq!(feed.samples.get_untracked().len(), 1);
        });
    }
}
