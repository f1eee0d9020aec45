//! What the tests of the whole project share: the replay of scenarios recorded from a real kernel IPVS, and the SDKs'
//! example.

pub mod golden;
pub mod sdk;
