//! The engine against the reference tensors of flux-mini, its own invariants, and input that it must refuse.

mod adapters;
mod conversions;
mod damage;
mod fixtures;
mod foreign_adapters;
mod foreign_models;
mod golden;
mod gradients;
mod plain_transformer;
mod properties;
mod refusals;
mod tiny;
