//! The binary `uvs` between real kernels' TCP/IP, in network namespaces.
//!
//! Each test builds a network (`uvs_lab::topology`, or one of its own), starts `uvs run` in its director host with a
//! real config, and looks at it from the clients and the real servers. The binary is the one of this very tree: it
//! is built with the cargo, the profile and the target folder of these tests (`uvs_lab::build_uvs`), so that neither an
//! old one nor none can be in the way.
//!
//! Root is needed, and /dev/net/tun. Without them each test says so and passes; with
//! `UVS_REQUIRE_ROOT_TESTS` in the environment it fails. Nothing outlives a test: hosts are namespaces of this
//! process, and their processes die with them. A test that fails prints what the director logged, its services, its
//! connections and what it dropped. One test runs at a time, for the sake of machines with few cores.

//!
//! `UVS_TEST_MODE` gives the interfaces of all directors other keys than the defaults, as in
//! `UVS_TEST_MODE="queues=2,offload=off"` or `"attach=tcx,accelerate=auto"`; `modes` tests the core of it in all modes
//! whatever that says.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod accelerate;
mod adm;
mod announce;
mod arp;
mod attach;
mod broken;
mod checks;
mod control;
mod decapsulate;
mod demo;
mod doctor;
mod documents;
mod drain;
mod failover;
mod feedback;
mod golden;
#[allow(dead_code, reason = "the host's own tests use the rest of it")]
#[path = "../../../router/plugin/tests/it/guest.rs"]
mod guest;
mod host_state;
mod icmp;
mod imported;
mod layer3;
mod lifecycle;
mod live;
mod local;
mod modes;
mod monitoring;
mod noise;
mod overload;
mod packet;
mod page;
mod path_mtu;
mod peer;
mod probe;
mod removal;
mod restart;
mod sdk;
mod see;
mod stage;
mod station;
mod top;
mod transfer;
mod two_directors;
mod unit;
mod waits;
