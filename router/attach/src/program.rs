//! The programs in the kernel and their map of ports.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use aya::maps::HashMap;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use uvs_director::spec::MacAddr;

use crate::cache::{Cache, CachePlan};
use crate::pins::Pins;

/// `bpf/attach.bpf.c`, compiled by `cargo xtask bpf`.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!("../prebuilt/attach.bpf.o");

/// The programs, and whether they run on the link or on the TAP.
const PROGRAMS: [(&str, Device, TcAttachType); 3] = [
    ("tap_ingress", Device::Tap, TcAttachType::Ingress),
    ("link_egress", Device::Link, TcAttachType::Egress),
    // The last: with it frames are taken from the host.
    ("link_ingress", Device::Link, TcAttachType::Ingress),
];

#[derive(Clone, Copy)]
enum Device {
    Tap,
    Link,
}

/// Bytes of `struct port`.
const PORT_LEN: usize = 28;

/// What the programs know of one interface of the director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Interface index of the TAP.
    pub(crate) tap: u32,
    /// Interface index of the link.
    pub(crate) link: u32,
    /// The director's address.
    pub(crate) director: MacAddr,
    /// The link's own address.
    pub(crate) host: MacAddr,
    /// Whether what comes in over the link may be in the flow cache.
    pub(crate) cached: bool,
    /// The link is a veth, and its other end is in another namespace.
    pub(crate) to_peer: bool,
}

impl Port {
    /// As `struct port` of `attach.bpf.c`.
    fn bytes(&self) -> [u8; PORT_LEN] {
        let mut bytes = [0; PORT_LEN];
        bytes[..4].copy_from_slice(&self.tap.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.link.to_ne_bytes());
        bytes[8..14].copy_from_slice(&self.director.0);
        bytes[14..20].copy_from_slice(&self.host.0);
        bytes[20..24].copy_from_slice(&u32::from(self.cached).to_ne_bytes());
        bytes[24..].copy_from_slice(&u32::from(self.to_peer).to_ne_bytes());
        bytes
    }
}

/// The links of BPF that hold the programs on one pair of devices. Dropped, they take them away.
pub(crate) struct Hooks(Vec<(&'static str, SchedClassifierLink)>);

/// What the kernel did not do: the step, the error number if there is one, and the text.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) step: String,
    pub(crate) errno: Option<Errno>,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(step: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        // What aya says first names its own function, the cause behind it the kernel's answer.
        let causes = || std::iter::successors(Some(error), |error| Error::source(*error));
        let errno = causes()
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .find_map(|error| error.raw_os_error().map(Errno::from_raw));
        let text = causes().map(ToString::to_string).collect::<Vec<_>>().join(": ");
        Self { step: step.into(), errno, text }
    }
}

/// The loaded object.
pub(crate) struct Programs {
    ebpf: Ebpf,
    pins: Option<Pins>,
}

impl Programs {
    /// Loads an object like [`OBJECT`] into the kernel, with a flow cache if one is planned.
    pub(crate) fn load(object: &[u8], plan: Option<&CachePlan>) -> Result<Self, Refusal> {
        let mut loader = EbpfLoader::new();
        let caching = u32::from(plan.is_some());
        let mut pins = match plan.and_then(|plan| plan.pin.as_deref()).map(Pins::open).transpose() {
            Ok(pins) => pins,
            Err(text) => return Err(Refusal { step: "pin the flow cache".to_owned(), errno: None, text }),
        };
        for (name, size) in plan.into_iter().flat_map(CachePlan::sizes) {
            loader.map_max_entries(name, size);
            if let Some(pins) = pins.as_mut().filter(|_| name.starts_with("flows")) {
                loader.map_pin_path(name, pins.map(name, size));
            }
        }
        // Nothing in it depends on the layout of the kernel's types: BTF of the kernel is not looked at.
        let mut ebpf = loader
            .btf(None)
            .override_global("caching", &caching, true)
            .load(object)
            .map_err(|error| Refusal::new("load the programs' map", &error))?;
        for (name, ..) in PROGRAMS {
            let loaded = classifier(&mut ebpf, name).load();
            loaded.map_err(|error| Refusal::new(format!("load the program {name}"), &error))?;
        }
        Ok(Self { ebpf, pins })
    }

    /// What is pinned stays from now on, and what an earlier director has pinned and this one has not taken over goes.
    pub(crate) fn keep_pins(&mut self) {
        if let Some(pins) = &mut self.pins {
            pins.keep();
        }
    }

    /// The flow cache of an object that was loaded with one.
    pub(crate) fn take_cache(&mut self, plan: &CachePlan) -> Result<Cache, Refusal> {
        Cache::new(&mut self.ebpf, plan)
            .map_err(|error| Refusal::new("use the maps of the flow cache", &error))
    }

    /// Tells the programs of a port, or what has changed about it.
    pub(crate) fn set_port(&mut self, port: &Port) -> Result<(), Refusal> {
        let mut ports = self.ports();
        for index in [port.tap, port.link] {
            let set = ports.insert(index, port.bytes(), 0);
            set.map_err(|error| Refusal::new("enter the port in the programs' map", &error))?;
        }
        Ok(())
    }

    /// Forgets a link, whose index may be another's from now on.
    pub(crate) fn forget(&mut self, index: u32) {
        // That it is not there is what is wanted.
        let _ = self.ports().remove(&index);
    }

    /// Puts the programs on a TAP and a link, by name, behind those that are there.
    pub(crate) fn attach(&mut self, tap: &str, link: &str) -> Result<Hooks, Refusal> {
        let mut hooks = Hooks(Vec::new());
        for (name, device, at) in PROGRAMS {
            // A TAP goes with the process, and what is on it.
            let (device, pin) = match device {
                Device::Tap => (tap, None),
                Device::Link => (link, self.pins.as_mut().map(|pins| pins.link(name, link))),
            };
            let program = classifier(&mut self.ebpf, name);
            if let Some(hook) = pin.as_deref().and_then(|pin| take_over(program, pin)) {
                hooks.0.push((name, hook));
                continue;
            }
            let attached = program
                .attach_with_options(device, at, TcAttachOptions::TcxOrder(LinkOrder::default()))
                .and_then(|id| program.take_link(id));
            let hook = attached
                .map_err(|error| Refusal::new(format!("attach the program {name} to {device}"), &error))?;
            let hook = match pin {
                Some(pin) => pinned(hook, &pin).map_err(|text| Refusal {
                    step: format!("pin the program {name} to {device}"),
                    errno: None,
                    text,
                })?,
                None => hook,
            };
            hooks.0.push((name, hook));
        }
        Ok(hooks)
    }

    /// The same hooks if all of them still hold; somebody may have detached them, or their device may have gone.
    pub(crate) fn renew(&mut self, hooks: Hooks) -> Option<Hooks> {
        let mut renewed = Hooks(Vec::new());
        for (name, hook) in hooks.0 {
            // To put the program in its own place changes nothing, and fails on a link of BPF that holds no device.
            let program = classifier(&mut self.ebpf, name);
            let hook = program.attach_to_link(hook).and_then(|id| program.take_link(id)).ok()?;
            renewed.0.push((name, hook));
        }
        Some(renewed)
    }

    fn ports(&mut self) -> HashMap<&mut aya::maps::MapData, u32, [u8; PORT_LEN]> {
        let map = self.ebpf.map_mut("ports").expect("the object has this map");
        map.try_into().expect("it is a hash map of these sizes")
    }
}

/// Puts a program where one of an earlier director was left, at once. `None`: there is none, or it holds no device any
/// more.
fn take_over(program: &mut SchedClassifier, pin: &Path) -> Option<SchedClassifierLink> {
    let left = FdLink::from(PinnedLink::from_pin(pin).ok()?);
    let link = SchedClassifierLink::try_from(left).ok();
    let taken = link.and_then(|link| program.attach_to_link(link).and_then(|id| program.take_link(id)).ok());
    if taken.is_none() {
        // It is in the way of the next one.
        let _ = fs::remove_file(pin);
    }
    taken
}

/// The same hook, which outlives the process.
fn pinned(hook: SchedClassifierLink, pin: &Path) -> Result<SchedClassifierLink, String> {
    let link = FdLink::try_from(hook).map_err(|error| error.to_string())?;
    let link = link.pin(pin).map_err(|error| error.to_string())?;
    SchedClassifierLink::try_from(FdLink::from(link)).map_err(|error| error.to_string())
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> &'e mut SchedClassifier {
    let program = ebpf.program_mut(name).expect("the object has this program");
    program.try_into().expect("it is a classifier")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::Structs;

    #[test]
    fn a_port_is_laid_out_as_the_programs_read_it() {
        let port = Port {
            tap: 0x0102_0304,
            link: 5,
            director: MacAddr([2, 0, 0, 0, 0, 1]),
            host: MacAddr([2, 0, 0, 0, 0, 9]),
            cached: true,
            to_peer: false,
        };
        let word = |word: u32| word.to_ne_bytes().to_vec();
        let members = [
            ("tap", word(0x0102_0304)),
            ("link", word(5)),
            ("director", vec![2, 0, 0, 0, 0, 1]),
            ("host", vec![2, 0, 0, 0, 0, 9]),
            ("cached", word(1)),
            ("to_peer", word(0)),
        ];
        Structs::of(OBJECT).check("port", &port.bytes(), members);
    }
}
