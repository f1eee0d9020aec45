//! What the tests of the whole project share: the replay of scenarios recorded from a real kernel IPVS.

pub mod golden;
