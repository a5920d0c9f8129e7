//! Publishing and signing in against a Hub on this machine: the client, the pages, the program, what goes wrong, who may see what, attacks,
//! and the Python client as a second reader.

mod attacks;
mod faults;
mod frame;
mod loopback;
mod ownership;
mod program;
mod publishing;
mod python;
mod scripts;
mod sign_in;
mod site;
#[path = "../server/studio.rs"]
#[expect(dead_code, reason = "the server's own tests use the rest")]
mod studio;
mod web;

use atelier::hub::{Hub, Order, Package, Published, RepoId, Result, Stage, Token, package::File, publish};
use loopback::Loopback;
use std::{sync::Mutex, time::Duration};

/// A client of this hub that does not wait long.
fn client(hub: &Loopback, token: &str) -> Hub {
    Hub::new(&hub.endpoint, Token::new(token).unwrap()).unwrap().with_pause(Duration::from_millis(5))
}

fn order(destination: &str) -> Order {
    Order { destination: destination.parse().unwrap(), private: false, replace: false, summary: "Mucha: 40 steps".into(), base_model: None }
}

/// As large as asked for, and different from version to version.
fn package(version: u8, bytes: usize) -> Package {
    let weights: Vec<u8> = (0..bytes).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8 ^ version).collect();
    Package::new(vec![
        File::new("pytorch_lora_weights.safetensors", weights),
        File::new("adapter.json", format!("{{\"version\": {version}}}")),
        File::new("README.md", format!("# Version {version}\n")),
        File::new("images/01.png", vec![version; 700]),
        File::new(format!("images/0{}.png", 2 + version), vec![version; 800]),
        File::new("images/01-base.png", vec![9; 900]),
    ])
}

async fn send(hub: &Hub, order: &Order, package: &Package) -> Result<Published> {
    publish(hub, order, |_: &RepoId| Ok(package.clone()), &|_| {}).await
}

/// Where a publication passed through.
async fn stages(hub: &Hub, order: &Order, package: &Package) -> (Result<Published>, Vec<Stage>) {
    let heard = Mutex::new(Vec::new());
    let outcome = publish(hub, order, |_: &RepoId| Ok(package.clone()), &|stage| heard.lock().unwrap().push(stage)).await;
    (outcome, heard.into_inner().unwrap())
}

/// The hub holds exactly this.
#[track_caller]
fn assert_holds(hub: &Loopback, repo: &str, package: &Package) {
    let mut files = hub.files(repo).expect("the repository is there");
    files.remove(".gitattributes");
    let paths: Vec<_> = files.keys().cloned().collect();
    assert_eq!(paths, package.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
    assert!(package.files.iter().all(|file| files[&file.path] == file.content), "bytes differ");
}
