//! Who looks at a walk between its stages.
//!
//! The walk is compiled twice: for [`Nobody`], whose looks are nothing, and for who is told (`traced.rs`), which nobody
//! waits for. So that the first stays what it would be alone, what a packet that hits passes is inlined by attribute,
//! never because the compiler sees a single caller.

use uvs_wire::Packet;

use crate::base::verdict::Verdict;
use crate::path::advance::Act;
use crate::path::classify::Class;
use crate::path::find::Found;
use crate::path::heading::Heading;
use crate::scene::Scene;

/// Who looks at a walk between its stages.
pub(crate) trait Look {
    /// What `classify` says.
    fn classified(&mut self, scene: &Scene<'_>, packet: &Packet, class: &Result<Class, Verdict>);
    /// What `find` says.
    fn found(&mut self, scene: &Scene<'_>, found: &Found<'_>);
    /// What `advance` has done.
    fn advanced(&mut self, scene: &Scene<'_>, heading: &Heading, act: &Act);
    /// What `route` and `emit` have done.
    fn emitted(&mut self, scene: &Scene<'_>, heading: &Heading, verdict: Verdict);
}

/// Nobody looks.
pub(crate) struct Nobody;

impl Look for Nobody {
    #[inline(always)]
    fn classified(&mut self, _: &Scene<'_>, _: &Packet, _: &Result<Class, Verdict>) {}
    #[inline(always)]
    fn found(&mut self, _: &Scene<'_>, _: &Found<'_>) {}
    #[inline(always)]
    fn advanced(&mut self, _: &Scene<'_>, _: &Heading, _: &Act) {}
    #[inline(always)]
    fn emitted(&mut self, _: &Scene<'_>, _: &Heading, _: Verdict) {}
}
