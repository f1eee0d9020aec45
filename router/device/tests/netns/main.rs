//! The device and the host around it, on the real kernel: each test in a network namespace of its own.
//!
//! They need root (CAP_NET_ADMIN) and `/dev/net/tun`. Without, they say so and pass; with
//! `UVS_REQUIRE_ROOT_TESTS=1` in the environment they fail.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test by panicking")]

mod device;
mod harness;
mod host;
mod net;
