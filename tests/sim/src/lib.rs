//! A seeded world around the director: clients, real servers and routers with TCP and UDP of their own, links that
//! lose, copy and reorder, several workers, a flow cache as the kernel's, changes of everything; in virtual time.
//!
//! ```text
//!   seed --> Generator --event--> World::step --> invariants hold, or a Violation --> shrink --> a short Script
//!                                   ^
//!   Script (a text file) -----------'
//! ```
//! Nothing in it is random but by the seed, so a run can be repeated, and a script tells it without the seed.

#![forbid(unsafe_code)]

mod cache;
mod check;
pub mod cli;
mod control;
pub mod event;
mod generate;
mod hosts;
pub mod known;
mod ledger;
mod packet;
mod pcap;
mod plan;
mod rng;
pub mod run;
mod scheduler;
mod shrink;
mod tcp;
pub mod world;
