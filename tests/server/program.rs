//! The program itself: what survives `kill -9`, what SIGTERM puts down, and starts that cannot be.

use app::api::*;
use serde::de::DeserializeOwned;
use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// `atelier serve` on a port and a data folder of its own.
pub struct Program {
    port: u16,
    child: Child,
}

impl Program {
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// In surroundings with these variables too.
    pub async fn start_with(data: &Path, variables: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = serve(data, port).envs(variables.iter().copied()).stderr(Stdio::null()).spawn().unwrap();
        let program = Self { port, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !reqwest::get(program.url("/health")).await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < deadline, "no answer within a minute");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        program
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn call<T: DeserializeOwned>(&self, function: &str, form: &str) -> T {
        let request = reqwest::Client::new().post(self.url(&format!("/api/{function}")));
        let request = request.header("content-type", "application/x-www-form-urlencoded").header("accept", "application/json");
        let text = request.body(form.to_owned()).send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{function}: {error}: {text}"))
    }

    async fn training(&self, run: &RunId) -> TrainingDetail {
        self.call("get_training", &format!("run={run}")).await
    }

    async fn until_training(&self, run: &RunId, is_so: impl Fn(&TrainingDetail) -> bool) -> TrainingDetail {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let detail = self.training(run).await;
            if is_so(&detail) {
                return detail;
            }
            assert!(Instant::now() < deadline, "two minutes have passed: {:?}", detail.run);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    async fn until_run(&self, id: &RunId, is_so: impl Fn(&Run) -> bool) -> Run {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let runs: Vec<Run> = self.call("list_runs", "active=false&limit=50").await;
            let run = runs.into_iter().find(|run| run.id == *id).unwrap();
            if is_so(&run) {
                return run;
            }
            assert!(Instant::now() < deadline, "a minute has passed: {run:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; returns the exit code.
    fn ask_to_leave(mut self) -> Option<i32> {
        assert!(Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have left already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(data: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    command.args(["serve", "--port", &port.to_string(), "--data-dir"]).arg(data).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

async fn start_training(program: &Program) -> RunId {
    let set: DatasetId = program.call("use_sample_set", "name=mucha").await;
    let form =
        "form[name]=Panel&form[recipe]=quick&form[steps]=5000&form[rank]=2&form[alpha]=2&form[resolution]=64x64&form[checkpoint_every]=5";
    program.call("start_training", &format!("form[dataset]={set}&{form}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_kill_9_finished_work_is_there_and_the_training_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path()).await;
    let picture: RunId = program.call("start_generation", "form[prompt]=a lake&form[size]=64x64&form[steps]=2").await;
    let picture = program.until_run(&picture, |run| run.state == RunState::Done).await.pictures.remove(0);
    let training = start_training(&program).await;
    let before = program.until_training(&training, |detail| detail.last_checkpoint.is_some_and(|step| step >= 5)).await;
    program.kill();

    let program = Program::start(data.path()).await;
    let file = reqwest::get(program.url(&format!("/files/pictures/{picture}.png"))).await.unwrap();
    assert!(file.status().is_success() && image::load_from_memory(&file.bytes().await.unwrap()).is_ok());
    let kept = before.last_checkpoint.unwrap();
    let after =
        program.until_training(&training, |detail| detail.run.progress.phase == "training" && detail.run.progress.done > kept + 1).await;
    assert_eq!(after.run.state, RunState::Running);
    let steps: Vec<u32> = after.losses.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=steps.len() as u32).collect::<Vec<_>>());
    // Steps taken again give the same numbers.
    for (first, again) in before.losses.iter().zip(&after.losses) {
        assert_eq!((first.step, first.loss), (again.step, again.loss));
    }
    let adapters: Vec<AdapterInfo> = program.call("list_adapters", "").await;
    assert!(adapters[0].training && adapters[0].steps >= 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_kills_its_process_twice_is_not_tried_again() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path()).await;
    let form = "form[prompt]=a lake&form[size]=512x512&form[steps]=100&form[seed]=3";
    let run: RunId = program.call("start_generation", form).await;
    for _ in 0..2 {
        program.until_run(&run, |run| run.state == RunState::Running).await;
        program.kill();
        program = Program::start(data.path()).await;
    }
    let given_up = program.until_run(&run, |run| run.state != RunState::Queued).await;
    assert_eq!(given_up.state, RunState::Failed);
    assert!(given_up.error.unwrap().contains("not tried a third time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_puts_the_training_down_for_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let mut program = Program::start(data.path()).await;
    let training = start_training(&program).await;
    let mut done = 0;
    // More often than a run may crash: leaving in order is no crash.
    for _ in 0..3 {
        let detail =
            program.until_training(&training, |detail| detail.run.progress.phase == "training" && detail.run.progress.done > done).await;
        assert_eq!(program.ask_to_leave(), Some(0));
        program = Program::start(data.path()).await;
        let kept = program.training(&training).await.last_checkpoint.unwrap();
        assert!(kept >= detail.run.progress.done, "no step was lost");
        done = kept;
    }
    assert!(program.training(&training).await.run.state.is_active());
}

#[test]
fn a_start_that_cannot_be_is_one_sentence() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let output = serve(data.path(), taken.local_addr().unwrap().port()).output().unwrap();
    assert_refused(&output, "another program uses this port");

    let missing = serve(data.path(), 0).args(["--model", "no/such/model"]).output().unwrap();
    assert_refused(&missing, "no/such/model");

    let file = data.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_refused(&serve(&file, 0).output().unwrap(), "file");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_do_not_share_a_data_folder() {
    let data = tempfile::tempdir().unwrap();
    let _first = Program::start(data.path()).await;
    let second = serve(data.path(), 0).output().unwrap();
    assert_refused(&second, "another Atelier is working in");
}

#[track_caller]
fn assert_refused(output: &Output, words: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: ") && last.contains(words), "{stderr}");
}

/// What a Space does at every restart: a new disk, the same bucket.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_new_disk_the_studio_goes_on_from_its_backup() {
    let (old, new, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let backup = [("ATELIER_BACKUP_DIR", bucket.path().to_str().unwrap()), ("ATELIER_BACKUP_EVERY", "1")];
    let program = Program::start_with(old.path(), &backup).await;
    let picture: RunId = program.call("start_generation", "form[prompt]=a lake&form[size]=64x64&form[steps]=2").await;
    let picture = program.until_run(&picture, |run| run.state == RunState::Done).await.pictures.remove(0);
    let training = start_training(&program).await;
    program.until_training(&training, |detail| detail.last_checkpoint.is_some_and(|step| step >= 5)).await;
    assert_eq!(program.ask_to_leave(), Some(0));

    let program = Program::start_with(new.path(), &backup).await;
    let file = reqwest::get(program.url(&format!("/files/pictures/{picture}.png"))).await.unwrap();
    assert!(file.status().is_success() && image::load_from_memory(&file.bytes().await.unwrap()).is_ok());
    let kept = program.training(&training).await.last_checkpoint.unwrap();
    let after =
        program.until_training(&training, |detail| detail.run.progress.done > kept + 1 && detail.run.state == RunState::Running).await;
    let steps: Vec<u32> = after.losses.iter().map(|point| point.step).collect();
    assert_eq!(steps, (1..=steps.len() as u32).collect::<Vec<_>>());
    // Pulled the plug on: what was copied last is there, and the folder is nobody else's.
    let deadline = Instant::now() + Duration::from_secs(30);
    let size = || std::fs::metadata(bucket.path().join("atelier.db")).unwrap().modified().unwrap();
    let before = size();
    while size() == before {
        assert!(Instant::now() < deadline, "no copy within half a minute");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    program.kill();
    let third = tempfile::tempdir().unwrap();
    let program = Program::start_with(third.path(), &backup).await;
    assert!(program.training(&training).await.last_checkpoint.unwrap() >= kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_does_not_end_is_left_when_asked() {
    let (data, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(bucket.path().join("atelier.db"), b"x").unwrap();
    // Nobody writes into it, so whoever opens it waits.
    assert!(Command::new("mkfifo").arg(bucket.path().join("store-id")).status().unwrap().success());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = serve(data.path(), port).env("ATELIER_BACKUP_DIR", bucket.path()).stderr(Stdio::null()).spawn().unwrap();
    let mut program = Program { port, child };
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reqwest::get(program.url("/health")).await.is_ok_and(|answer| answer.status() == 503) {
        assert!(Instant::now() < deadline, "no answer within half a minute");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(Command::new("kill").args(["-TERM", &program.child.id().to_string()]).status().unwrap().success());
    let asked = Instant::now();
    while program.child.try_wait().unwrap().is_none() {
        assert!(asked.elapsed() < Duration::from_secs(5), "it is still there");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert_eq!(program.child.wait().unwrap().code(), Some(0));
}
