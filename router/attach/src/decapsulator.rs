//! The program that unpacks IP-in-IP packets on a real server, before its own stack sees them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use aya::maps::{HashMap, MapData, PerCpuArray};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;

use crate::capabilities;
use crate::error::text_of_verifier;
use crate::program::Refusal;

/// `bpf/decap.bpf.c`, compiled by `cargo xtask bpf`.
pub const DECAP_OBJECT: &[u8] = aya::include_bytes_aligned!("../prebuilt/decap.bpf.o");

/// What an address is to the program.
const RIP: u32 = 1;
const VIP: u32 = 2;

/// Positions in the program's map of counters.
const DECAPSULATED: u32 = 0;
const CONGESTED: u32 = 1;

/// The program on all links. Dropped, it takes them away; so does the kernel when the process ends.
pub struct Decapsulator {
    ebpf: Ebpf,
    _hooks: Vec<SchedClassifierLink>,
}

/// What it did so far, in packets; of a GSO packet each of its packets counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decapsulated {
    /// Unpacked and handed to the host.
    pub packets: u64,
    /// Dropped because the tunnel met congestion and the inner packet cannot say so (RFC 6040 section 4.2).
    pub congested: u64,
}

/// The program cannot be had. The text says what and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum DecapsulatorError {
    /// The process may not load programs into the kernel.
    #[error(
        "programs in the kernel are not permitted: {} (setcap cap_bpf,cap_net_admin+ep, docker run --cap-add BPF --cap-add NET_ADMIN)",
        if missing.is_empty() { "they take rights outside this user namespace".to_owned() } else { format!("{} is missing", missing.join(" and ")) }
    )]
    NoCapability {
        /// Those of CAP_BPF and CAP_NET_ADMIN that are missing; none: they do not count where the process is.
        missing: Vec<&'static str>,
    },
    /// The kernel knows no tcx.
    #[error("this kernel cannot {step} ({cause}): it takes Linux 6.6 or later with CONFIG_NET_XGRESS")]
    NoTcx {
        /// What was tried.
        step: String,
        /// What the kernel said.
        cause: String,
    },
    /// Anything else.
    #[error("cannot {step}: {cause}")]
    Failed {
        /// What was tried.
        step: String,
        /// What the kernel said.
        cause: String,
    },
}

impl From<Refusal> for DecapsulatorError {
    fn from(Refusal { step, errno, text: cause }: Refusal) -> Self {
        match errno {
            Some(Errno::EPERM | Errno::EACCES) if text_of_verifier(&cause).is_none() => {
                Self::NoCapability { missing: capabilities::missing() }
            }
            Some(Errno::ENOSYS) => Self::NoTcx { step, cause },
            Some(Errno::EINVAL | Errno::EOPNOTSUPP) if step.starts_with("attach") => {
                Self::NoTcx { step, cause }
            }
            _ => Self::Failed { step, cause },
        }
    }
}

impl Decapsulator {
    /// Unpacks what comes in on `links` (names of Ethernet links in the network namespace of the calling thread) for
    /// one of `rips` with a packet to one of `vips` inside. Together 4096 addresses at most.
    ///
    /// # Errors
    /// See [`DecapsulatorError`]; nothing is attached then.
    pub fn attach(links: &[String], rips: &[IpAddr], vips: &[IpAddr]) -> Result<Self, DecapsulatorError> {
        Self::with_object(links, rips, vips, DECAP_OBJECT)
    }

    /// The same with the program of another object, for the test of one that was just compiled.
    ///
    /// # Errors
    /// As [`Self::attach`].
    ///
    /// # Panics
    /// When the object is not made of `bpf/decap.bpf.c`.
    pub fn with_object(
        links: &[String],
        rips: &[IpAddr],
        vips: &[IpAddr],
        object: &[u8],
    ) -> Result<Self, DecapsulatorError> {
        // Nothing in it depends on the layout of the kernel's types: BTF of the kernel is not looked at.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .load(object)
            .map_err(|error| Refusal::new("load the program's maps", &error))?;
        let loaded = program(&mut ebpf).load();
        loaded.map_err(|error| Refusal::new("load the program decapsulate", &error))?;
        let map = ebpf.map_mut("addresses").expect("the object has this map");
        let mut addresses: HashMap<&mut MapData, [u8; 16], u32> =
            map.try_into().expect("it is a hash map of these sizes");
        for address in rips.iter().chain(vips) {
            let is = |of: &[IpAddr], what| if of.contains(address) { what } else { 0 };
            let set = addresses.insert(key(*address).octets(), is(rips, RIP) | is(vips, VIP), 0);
            set.map_err(|error| Refusal::new(format!("enter {address} in the program's map"), &error))?;
        }
        let mut hooks = Vec::new();
        for link in links {
            let program = program(&mut ebpf);
            let attached = program
                .attach_with_options(
                    link,
                    TcAttachType::Ingress,
                    TcAttachOptions::TcxOrder(LinkOrder::default()),
                )
                .and_then(|id| program.take_link(id));
            let hook = attached
                .map_err(|error| Refusal::new(format!("attach the program decapsulate to {link}"), &error))?;
            hooks.push(hook);
        }
        Ok(Self { ebpf, _hooks: hooks })
    }

    /// What it did since it was attached.
    pub fn counters(&self) -> Decapsulated {
        let map = self.ebpf.map("counters").expect("the object has this map");
        let counters: PerCpuArray<&MapData, u64> = map.try_into().expect("it is an array of these sizes");
        // That it is not read leaves a figure out, no more.
        let sum = |index| counters.get(&index, 0).map_or(0, |lanes| lanes.iter().sum());
        Decapsulated { packets: sum(DECAPSULATED), congested: sum(CONGESTED) }
    }
}

impl fmt::Debug for Decapsulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decapsulator").field("counters", &self.counters()).finish_non_exhaustive()
    }
}

/// An address as the program knows it.
fn key(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn program(ebpf: &mut Ebpf) -> &mut SchedClassifier {
    let program = ebpf.program_mut("decapsulate").expect("the object has this program");
    program.try_into().expect("it is a classifier")
}
