//! The server with a real model and a real data folder: through the router in process, and as a program that is killed.

mod guards;
mod http_api;
mod openai;
mod pictures;
mod program;
#[path = "../hub/python.rs"]
#[expect(dead_code, reason = "the hub's own tests use the rest")]
mod python;
mod studio;
mod trainings;
mod uploads;
