//! The programs in the kernel and their map of ports.

use std::error::Error;
use std::io;

use aya::maps::HashMap;
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};
use nix::errno::Errno;
use uvs_director::spec::MacAddr;

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
}

impl Port {
    /// As `struct port` of `attach.bpf.c`.
    fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.tap.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.link.to_ne_bytes());
        bytes[8..14].copy_from_slice(&self.director.0);
        bytes[14..].copy_from_slice(&self.host.0);
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
pub(crate) struct Programs(Ebpf);

impl Programs {
    /// Loads an object like [`OBJECT`] into the kernel.
    pub(crate) fn load(object: &[u8]) -> Result<Self, Refusal> {
        // Nothing in it depends on the layout of the kernel's types: BTF of the kernel is not looked at.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .load(object)
            .map_err(|error| Refusal::new("load the programs' map", &error))?;
        for (name, ..) in PROGRAMS {
            let loaded = classifier(&mut ebpf, name).load();
            loaded.map_err(|error| Refusal::new(format!("load the program {name}"), &error))?;
        }
        Ok(Self(ebpf))
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
            let device = match device {
                Device::Tap => tap,
                Device::Link => link,
            };
            let program = classifier(&mut self.0, name);
            let attached = program
                .attach_with_options(device, at, TcAttachOptions::TcxOrder(LinkOrder::default()))
                .and_then(|id| program.take_link(id));
            let hook = attached
                .map_err(|error| Refusal::new(format!("attach the program {name} to {device}"), &error))?;
            hooks.0.push((name, hook));
        }
        Ok(hooks)
    }

    /// The same hooks if all of them still hold; somebody may have detached them, or their device may have gone.
    pub(crate) fn renew(&mut self, hooks: Hooks) -> Option<Hooks> {
        let mut renewed = Hooks(Vec::new());
        for (name, hook) in hooks.0 {
            // To put the program in its own place changes nothing, and fails on a link of BPF that holds no device.
            let program = classifier(&mut self.0, name);
            let hook = program.attach_to_link(hook).and_then(|id| program.take_link(id)).ok()?;
            renewed.0.push((name, hook));
        }
        Some(renewed)
    }

    fn ports(&mut self) -> HashMap<&mut aya::maps::MapData, u32, [u8; 20]> {
        let map = self.0.map_mut("ports").expect("the object has this map");
        map.try_into().expect("it is a hash map of these sizes")
    }
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> &'e mut SchedClassifier {
    let program = ebpf.program_mut(name).expect("the object has this program");
    program.try_into().expect("it is a classifier")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_laid_out_as_the_programs_read_it() {
        let port = Port {
            tap: 0x0102_0304,
            link: 5,
            director: MacAddr([2, 0, 0, 0, 0, 1]),
            host: MacAddr([2, 0, 0, 0, 0, 9]),
        };
        let mut want = Vec::from(0x0102_0304_u32.to_ne_bytes());
        want.extend(5_u32.to_ne_bytes());
        want.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(port.bytes()[..], want);
    }
}
