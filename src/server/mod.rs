//! The web server: pages and server functions, uploads, files, events, and the HTTP API for scripts; who asks, and what each may do.

pub mod api;
mod backups;
pub mod checks;
mod door;
pub mod error;
pub mod events;
pub mod files;
pub mod headers;
mod html;
pub mod metrics;
pub mod openai;
pub mod rates;
pub mod rest;
pub mod router;
pub mod sign_in;
pub mod state;
pub mod style_sets;
pub mod upload;
pub mod visitor;

pub use state::AppState;

use crate::{
    config::{BackupSettings, Config},
    jobs::Jobs,
    store::Store,
};
use anyhow::Context;
use backups::Copies;
use door::{Door, Studio};
use std::{convert::Infallible, io, net::SocketAddr, time::Duration};
use tokio::{net::TcpListener, signal, sync::oneshot};

/// The surroundings do not allow a start: what the person who typed the command can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotStart(pub String);

/// Serves until Ctrl-C or SIGTERM, then puts running work down so that the next start goes on with it. Listens before anything is opened.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let listener = listen(config.address()).await?;
    let address = listener.local_addr()?;
    tracing::info!("Atelier is at http://{address}");
    let door = Door::new(&config);
    let (left, leaving) = oneshot::channel();
    let leave = {
        let door = door.clone();
        async move {
            until_asked_to_leave(door).await;
            let _ = left.send(());
        }
    };
    let served = axum::serve(listener, door.router().into_make_service_with_connect_info::<SocketAddr>()).with_graceful_shutdown(leave);
    tokio::select! {
        served = async { served.await } => served.context("the server ended"),
        Err(error) = open(&config, address, &door) => Err(error),
        () = long_after(leaving) => Ok(()),
    }
}

/// Some time after work was put down: connections that do not end by themselves, such as a download that nobody reads, are cut off then.
async fn long_after(leaving: oneshot::Receiver<()>) {
    match leaving.await {
        Ok(()) => tokio::time::sleep(Duration::from_secs(10)).await,
        Err(_) => std::future::pending().await,
    }
}

/// Everything behind the door: the store, from its backup where it is gone, and the jobs. Returns when the model cannot be had.
async fn open(config: &Config, address: SocketAddr, door: &Door) -> anyhow::Result<Infallible> {
    if let Some(BackupSettings { folder, .. }) = &config.backup {
        backups::restore(&config.data_dir, folder, door).await?;
    }
    let cannot = |error| refuse(format!("{}: {error}", config.data_dir.display()));
    let store = Store::open(&config.data_dir).await.map_err(cannot)?;
    tracing::info!("everything is kept in {}", config.data_dir.display());
    let jobs = Jobs::start(store.clone(), config).await?;
    let state = AppState::new(jobs.clone(), config, address)?;
    let copies = config.backup.as_ref().map(|settings| Copies::keep(store, settings, state.metrics.backups.clone()));
    let publishing = state.publishing.clone();
    door.open(Studio { router: router::router(state), jobs: jobs.clone(), publishing, copies });
    Err(refuse(jobs.device.failure().await.to_string()))
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "another program uses this port; stop it, or choose another with --port",
            io::ErrorKind::PermissionDenied => "this port needs more rights than you have; choose one above 1024 with --port",
            io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose another with --host",
            _ => return refuse(format!("cannot listen at {address}: {error}")),
        };
        refuse(format!("cannot listen at {address}: {why}"))
    })
}

fn refuse(sentence: String) -> anyhow::Error {
    CannotStart(sentence).into()
}

/// Runs are put down before connections are closed, so that watchers hear the last word.
async fn until_asked_to_leave(door: Door) {
    asked_to_leave().await;
    tracing::info!("putting work down; press Ctrl-C again to leave at once");
    tokio::spawn(async {
        asked_to_leave().await;
        std::process::exit(130);
    });
    let Some(Studio { jobs, publishing, copies, .. }) = door.studio() else { return };
    tokio::join!(jobs.shut_down(), publishing.shut_down());
    jobs.hub.close_all();
    // What came after the last copy would be lost.
    door.leave().await;
    if let Some(copies) = copies {
        copies.write().await;
    }
}

async fn asked_to_leave() {
    let terminated = async {
        match signal::unix::signal(signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => signals.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = signal::ctrl_c() => {}
        _ = terminated => {}
    }
}
