//! Why a device cannot be opened, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use uvs_director::spec::MacAddr;

use crate::device::{MTU_MIN, QUEUES_MAX};

/// A device could not be opened. The text says what, where and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name cannot name a link.
    #[error(
        "{name:?} cannot be a device's name: {why}\n  fix: use 1 to 15 bytes without spaces, '/', ':' and '%', as in uvs0"
    )]
    Name {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is such a link already.
    #[error(
        "device {name}: a link of this name exists already\n  fix: choose another name, or remove that one: ip link del {name}"
    )]
    NameTaken {
        /// The name asked for.
        name: String,
    },
    /// The MTU is out of range.
    #[error(
        "device {name}: MTU {mtu} is out of range\n  fix: use {min} to {max}{ethernet}",
        min = MTU_MIN,
        ethernet = if *max < 65_535 { " (a TAP device's frame has 14 bytes more)" } else { "" }
    )]
    Mtu {
        /// The device.
        name: String,
        /// The MTU asked for.
        mtu: u32,
        /// The largest this kind of device takes.
        max: u32,
    },
    /// The number of queues is out of range.
    #[error("device {name}: {queues} queues cannot be had\n  fix: use 1 to {max}", max = QUEUES_MAX)]
    Queues {
        /// The device.
        name: String,
        /// The number asked for.
        queues: u16,
    },
    /// The director's MAC address cannot be a station's.
    #[error(
        "device {name}: {mac} cannot be a station's MAC address\n  fix: use a unicast address, best a locally administered one as 02:00:00:00:00:01"
    )]
    Mac {
        /// The device.
        name: String,
        /// The address.
        mac: MacAddr,
    },
    /// There is no `/dev/net/tun`, or no driver behind it.
    #[error(
        "{} does not exist, or no driver stands behind it\n  fix: modprobe tun; in a container: pass the device in (docker run --device /dev/net/tun); if only the node is missing: mkdir -p /dev/net && mknod /dev/net/tun c 10 200",
        path.display()
    )]
    NoNode {
        /// Where it should be.
        path: PathBuf,
    },
    /// `/dev/net/tun` may not be opened.
    #[error(
        "{} may not be opened for reading and writing ({cause})\n  fix: run as root, or let this user: chmod 0666 {}; in a container: docker run --device /dev/net/tun",
        path.display(), path.display()
    )]
    NodeDenied {
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The process may not make devices.
    #[error(
        "device {name}: not permitted: CAP_NET_ADMIN is missing in this network namespace\n  fix: run as root, or grant it: setcap cap_net_admin+ep on the program, AmbientCapabilities=CAP_NET_ADMIN in its systemd unit, docker run --cap-add NET_ADMIN"
    )]
    NoCapability {
        /// The device.
        name: String,
    },
    /// The kernel does not take the offload asked for.
    #[error(
        "device {name}: the kernel does not offer checksum and segmentation offload on it\n  fix: turn offload off for this device"
    )]
    NoOffload {
        /// The device.
        name: String,
    },
    /// Anything else.
    #[error("device {name}: cannot {step}: {cause}")]
    Failed {
        /// The device.
        name: String,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl DeviceError {
    /// What a failure to open the clone device means.
    pub(crate) fn from_node(path: &Path, cause: io::Error) -> Self {
        let path = path.to_owned();
        match errno(&cause) {
            Some(Errno::ENOENT | Errno::ENXIO | Errno::ENODEV | Errno::ENOTDIR) => Self::NoNode { path },
            // EPERM comes from a container's device rules.
            _ => Self::NodeDenied { path, cause },
        }
    }

    /// What a failure of one step on an opened clone device means.
    pub(crate) fn from_step(name: &str, step: &'static str, cause: io::Error) -> Self {
        let name = name.to_owned();
        match errno(&cause) {
            Some(Errno::EPERM | Errno::EACCES) => Self::NoCapability { name },
            // Somebody made a link of this name since we looked.
            Some(Errno::EBUSY | Errno::EEXIST) => Self::NameTaken { name },
            _ => Self::Failed { name, step, cause },
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_become_advice() {
        let node = |errno: Errno| DeviceError::from_node(Path::new("/dev/net/tun"), errno.into());
        let step = |errno: Errno| DeviceError::from_step("uvs0", "create it", errno.into());
        let cases = [
            (node(Errno::ENOENT), "modprobe tun", "no node"),
            (node(Errno::ENODEV), "modprobe tun", "a node without a driver"),
            (node(Errno::EACCES), "chmod 0666 /dev/net/tun", "a node of mode 0600"),
            (node(Errno::EPERM), "--device /dev/net/tun", "a container without the device"),
            (step(Errno::EPERM), "CAP_NET_ADMIN", "no capability"),
            (step(Errno::EBUSY), "ip link del uvs0", "the name was taken meanwhile"),
            (step(Errno::ENOMEM), "cannot create it", "anything else"),
        ];
        for (error, want, case) in cases {
            let text = error.to_string();
            assert!(text.contains(want), "{case}: {text}");
        }
    }
}
