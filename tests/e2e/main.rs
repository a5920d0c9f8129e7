//! Atelier as its visitors live it: the real program, a real browser, and nobody's help. Pictures of every page go to `target/screenshots`.
//!
//! Needs chromedriver, `target/site` and `node_modules/axe-core`; `make test` sees to all three.

mod audit;
mod browser;
mod keyboard;
#[path = "../hub/loopback/mod.rs"]
#[expect(dead_code, reason = "the hub's own tests use its faults")]
mod loopback;
mod own_pictures;
mod page;
mod scriptless;
mod sign_in;
mod stage;
mod story;
mod studio;
mod survival;
mod training;
