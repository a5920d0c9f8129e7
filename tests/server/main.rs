//! The server with a real model and a real data folder: through the router in process, and as a program that is killed.

mod guards;
mod pictures;
mod program;
mod studio;
mod trainings;
mod uploads;
