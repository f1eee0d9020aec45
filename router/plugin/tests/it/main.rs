//! The host against guests that behave, guests that do not, and files that are no guests at all.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps, helpers included")]

mod cache;
mod factory;
mod feedback;
mod guest;
mod hostile;
mod layers;
mod live;
mod load;
mod parity;
