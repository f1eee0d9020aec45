//! The programs on a real kernel, frame by frame. Each test in network namespaces of its own.
//!
//! They need root (CAP_BPF counts in the system's own user namespace alone) and `/dev/net/tun`. Without, they say so
//! and pass; with `UVS_REQUIRE_ROOT_TESTS` in the environment they fail. With `UVS_TEST_BPF` in it, they test the
//! objects in that folder in place of the committed ones, as `cargo xtask test` has them do with what another compiler
//! built.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod decapsulator;
mod differential;
mod frames;
mod gso;
mod lab;
mod links;
mod order;
