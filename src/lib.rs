//! Atelier: a studio for painting styles, as one program.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod cli;
pub mod config;
pub mod hub;
pub mod jobs;
pub mod server;
pub mod store;

pub use engine;
pub use train;
