//! One plain thread owns the device. Its unit of work is one step, and whoever is active is served in turn.

use super::{
    error::of_engine,
    resident::{Facts, Resident},
};
use crate::config::Config;
use anyhow::{Result, anyhow};
use engine::{Model, Pipeline};
use std::{
    collections::VecDeque,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};
use tokio::sync::{mpsc, oneshot, watch};

/// Work that is done a step at a time.
pub trait Task: Send + 'static {
    /// One step; breaks when it was the last.
    fn advance(&mut self, resident: &mut Resident) -> Result<ControlFlow<Ended>>;
}

/// How a task came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Finished,
    /// The visitor asked for it.
    Stopped,
    /// The process is about to end.
    Interrupted,
}

#[derive(Clone, Debug)]
pub enum Loading {
    Waiting,
    Ready(Arc<Facts>),
    Failed(Arc<engine::Error>),
}

/// The way to the thread.
#[derive(Clone)]
pub struct Device {
    mailbox: mpsc::Sender<Job>,
    loading: watch::Receiver<Loading>,
}

struct Job {
    task: Box<dyn Task>,
    done: oneshot::Sender<Result<Ended>>,
}

/// Tasks that wait for the thread to look; three queues and a few questions never fill it.
const MAILBOX: usize = 32;

impl Device {
    /// Starts the thread, which loads the model first. Tasks may be sent meanwhile.
    pub fn start(config: &Config) -> Self {
        let (mailbox, arrivals) = mpsc::channel(MAILBOX);
        let (announce, loading) = watch::channel(Loading::Waiting);
        let config = config.clone();
        let run = move || own(&config, arrivals, &announce);
        thread::Builder::new().name("device".into()).spawn(run).expect("the system can start a thread");
        Self { mailbox, loading }
    }

    pub fn loading(&self) -> Loading {
        self.loading.borrow().clone()
    }

    /// What is known of the model, as soon as it is loaded.
    pub async fn facts(&self) -> Result<Arc<Facts>> {
        let mut loading = self.loading.clone();
        let settled = loading.wait_for(|loading| !matches!(loading, Loading::Waiting)).await.map_err(|_| gone())?.clone();
        match settled {
            Loading::Ready(facts) => Ok(facts),
            Loading::Failed(error) => Err(anyhow!("{error}")),
            Loading::Waiting => Err(gone()),
        }
    }

    /// Why the model could not be loaded, or was lost with its GPU; does not return before.
    pub async fn failure(&self) -> Arc<engine::Error> {
        let mut loading = self.loading.clone();
        if let Ok(settled) = loading.wait_for(|loading| matches!(loading, Loading::Failed(_))).await
            && let Loading::Failed(error) = &*settled
        {
            return error.clone();
        }
        std::future::pending().await
    }

    /// Has a task done in turn with the others. The task is gone, with its end of every channel, when this returns.
    pub async fn run(&self, task: impl Task) -> Result<Ended> {
        let (done, answer) = oneshot::channel();
        self.mailbox.send(Job { task: Box::new(task), done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Asks the model something that takes no longer than a step.
    pub async fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Pipeline) -> T + Send + 'static) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.run(Question(Some(move |pipeline: &Pipeline| {
            let _ = reply.send(question(pipeline));
        })))
        .await?;
        answer.await.map_err(|_| gone())
    }
}

fn gone() -> anyhow::Error {
    anyhow!("The model is not loaded, so nothing can be drawn or trained. Atelier's log says why.")
}

struct Question<F>(Option<F>);

impl<F: FnOnce(&Pipeline) + Send + 'static> Task for Question<F> {
    fn advance(&mut self, resident: &mut Resident) -> Result<ControlFlow<Ended>> {
        if let Some(question) = self.0.take() {
            question(&resident.pipeline);
        }
        Ok(ControlFlow::Break(Ended::Finished))
    }
}

/// The thread's life.
fn own(config: &Config, mut arrivals: mpsc::Receiver<Job>, announce: &watch::Sender<Loading>) {
    let loaded = catch_unwind(|| load(config));
    let loaded = loaded.unwrap_or_else(|_| Err(engine::Error::model(&config.model, "broke while it was loaded; the log says where")));
    let end = loaded.and_then(|(pipeline, facts)| {
        announce.send_replace(Loading::Ready(Arc::new(facts)));
        take_turns(&mut Resident::new(pipeline), &mut arrivals)
    });
    if let Err(error) = end {
        announce.send_replace(Loading::Failed(Arc::new(error)));
    }
}

fn load(config: &Config) -> engine::Result<(Pipeline, Facts)> {
    let pipeline = Pipeline::load_in(Model::open(&config.model, &config.chosen)?, &config.device.open()?, config.precision)?;
    let facts = Facts::of(&pipeline)?;
    Ok((pipeline, facts))
}

/// Who arrives during a step is next: a picture waits for one training micro-step, never for two. Ends with the last asker, or with the
/// device.
fn take_turns(resident: &mut Resident, arrivals: &mut mpsc::Receiver<Job>) -> engine::Result<()> {
    let mut active = VecDeque::new();
    loop {
        let current = match active.pop_front() {
            Some(job) => job,
            None => match arrivals.blocking_recv() {
                Some(job) => job,
                None => return Ok(()),
            },
        };
        let unfinished = step(current, resident)?;
        let present = active.len();
        while let Ok(job) = arrivals.try_recv() {
            active.push_back(job);
        }
        active.rotate_left(present);
        active.extend(unfinished);
    }
}

/// One step of one task. A task that breaks, or asks for more memory than there is, fails alone; a device that is lost is an error.
fn step(mut job: Job, resident: &mut Resident) -> engine::Result<Option<Job>> {
    if job.done.is_closed() {
        return Ok(None);
    }
    let end = match catch_unwind(AssertUnwindSafe(|| job.task.advance(resident))) {
        Ok(Ok(ControlFlow::Continue(()))) => return Ok(Some(job)),
        Ok(Ok(ControlFlow::Break(ended))) => Ok(ended),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(anyhow!("Something inside Atelier broke while it worked on this. The log says where; other work goes on.")),
    };
    let Job { task, done } = job;
    drop(task);
    let cause = end.as_ref().err().and_then(of_engine);
    let lost = cause.filter(|error| error.is_loss_of_device()).map(ToString::to_string);
    if matches!(cause, Some(engine::Error::OutOfMemory)) {
        resident.recover();
    }
    let _ = done.send(end);
    match lost {
        None => Ok(None),
        Some(error) => Err(engine::Error::invalid(format!("the GPU failed and must be opened anew; start Atelier again ({error})"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Countdown(u32, &'static str, std::sync::mpsc::Sender<&'static str>);

    impl Task for Countdown {
        fn advance(&mut self, _: &mut Resident) -> Result<ControlFlow<Ended>> {
            self.2.send(self.1)?;
            self.0 -= 1;
            assert!(self.0 != 13, "thirteen");
            Ok(if self.0 == 0 { ControlFlow::Break(Ended::Finished) } else { ControlFlow::Continue(()) })
        }
    }

    fn device() -> Device {
        Device::start(&Config::default())
    }

    /// Fails with what the driver says.
    struct Failing(&'static str);

    impl Task for Failing {
        fn advance(&mut self, _: &mut Resident) -> Result<ControlFlow<Ended>> {
            let error = candle_core::Error::Cuda(format!("DriverError({})", self.0).into()).bt();
            Err(train::Error::from(error).into())
        }
    }

    #[tokio::test]
    async fn memory_that_ran_out_fails_one_task_and_a_lost_device_ends_all() {
        let device = device();
        let error = device.run(Failing("CUDA_ERROR_OUT_OF_MEMORY")).await.unwrap_err().to_string();
        assert!(error.contains("memory ran out") && error.contains("nf4"), "{error}");
        // What was let go of comes back: a prompt is heard as before.
        let heard = device.ask(|pipeline| pipeline.text_encoder.encode(&["a boat"], 16).is_ok()).await;
        assert!(heard.unwrap());
        assert!(device.run(Failing("CUDA_ERROR_ILLEGAL_ADDRESS")).await.is_err());
        assert!(device.failure().await.to_string().contains("start Atelier again"));
        assert!(device.ask(|_| ()).await.is_err());
    }

    #[tokio::test]
    async fn tasks_take_turns_and_a_broken_one_fails_alone() {
        let device = device();
        let (heard, order) = std::sync::mpsc::channel();
        let (long, broken) =
            tokio::join!(device.run(Countdown(4, "long", heard.clone())), device.run(Countdown(14, "broken", heard.clone())));
        assert_eq!(long.unwrap(), Ended::Finished);
        assert!(broken.unwrap_err().to_string().contains("broke"));
        assert_eq!(order.try_iter().take(4).collect::<Vec<_>>().concat(), "longbrokenlonglong");
        assert_eq!(device.run(Countdown(1, "after", heard)).await.unwrap(), Ended::Finished);
    }

    #[tokio::test]
    async fn a_missing_model_is_a_sentence() {
        let device = Device::start(&Config { model: "no/such/model".into(), ..Config::default() });
        assert!(device.facts().await.is_err());
        assert!(device.failure().await.to_string().contains("no/such/model"));
        assert!(device.ask(|_| ()).await.is_err());
    }
}
