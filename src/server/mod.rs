//! The web server: pages and server functions, uploads, files, events; who asks, and what each may do.

pub mod api;
pub mod checks;
pub mod error;
pub mod events;
pub mod files;
pub mod headers;
pub mod rates;
pub mod router;
pub mod sign_in;
pub mod state;
pub mod style_sets;
pub mod upload;
pub mod visitor;

pub use state::AppState;

use crate::{config::Config, jobs::Jobs, store::Store};
use anyhow::Context;
use std::{future::Future, io, net::SocketAddr};
use tokio::{net::TcpListener, signal};

/// The surroundings do not allow a start: what the person who typed the command can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotStart(pub String);

/// Serves until Ctrl-C or SIGTERM, then puts running work down so that the next start goes on with it.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let listener = listen(config.address()).await?;
    let address = listener.local_addr()?;
    let store = Store::open(&config.data_dir).await.map_err(|error| refuse(format!("{}: {error}", config.data_dir.display())))?;
    let jobs = Jobs::start(store, &config).await?;
    let state = AppState::new(jobs.clone(), &config, address)?;
    tracing::info!("Atelier is at http://{address}");
    let app = router::router(state).into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, app).with_graceful_shutdown(until_asked_to_leave(jobs.clone()));
    tokio::select! {
        served = async { served.await } => served.context("the server ended"),
        error = jobs.device.failure() => Err(refuse(error.to_string())),
    }
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
fn until_asked_to_leave(jobs: Jobs) -> impl Future<Output = ()> + Send + 'static {
    async move {
        asked_to_leave().await;
        tracing::info!("putting work down; press Ctrl-C again to leave at once");
        tokio::spawn(async {
            asked_to_leave().await;
            std::process::exit(130);
        });
        jobs.shut_down().await;
        jobs.hub.close_all();
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
