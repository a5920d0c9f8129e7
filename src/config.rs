//! What the surroundings decide: folders, address, limits. The only reader of the environment besides clap's `env`.
