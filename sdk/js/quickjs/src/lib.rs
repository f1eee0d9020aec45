//! Pins the sources of QuickJS; see `Cargo.toml`.
