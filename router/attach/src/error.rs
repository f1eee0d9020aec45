//! Why an interface cannot be attached, and what to do about it.

use nix::errno::Errno;
use uvs_device::net::NetError;
use uvs_director::spec::MacAddr;

use crate::attachments::Pair;
use crate::capabilities;
use crate::program::Refusal;

/// A direct attach could not be made. The text says what, where and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The process may not load programs into the kernel.
    #[error(
        "attach = \"tcx\" is not permitted: {} missing\n  fix: {}; or use a bridge: bridge = {{ name = \"br0\", ports = [\"{link}\"] }}",
        if missing.is_empty() { "rights outside this user namespace are".to_owned() } else { format!("{} is", missing.join(" and ")) },
        if missing.is_empty() {
            "run as root of the system (in a container without a user namespace), programs in the kernel count for all of it"
        } else {
            "run as root, or grant both: setcap cap_bpf,cap_net_admin+ep on the program, AmbientCapabilities=CAP_BPF CAP_NET_ADMIN in its systemd unit, docker run --cap-add BPF --cap-add NET_ADMIN"
        }
    )]
    NoCapability {
        /// Those of CAP_BPF and CAP_NET_ADMIN that are missing; none: they do not count where the process is.
        missing: Vec<&'static str>,
        /// The first link.
        link: String,
    },
    /// The kernel knows no tcx.
    #[error(
        "attach = \"tcx\" of interface {device}: this kernel cannot {step} ({cause})\n  fix: use Linux 6.6 or later with CONFIG_BPF_SYSCALL and CONFIG_NET_XGRESS, or a bridge: bridge = {{ name = \"br0\", ports = [\"{link}\"] }}"
    )]
    NoTcx {
        /// The interface.
        device: String,
        /// Its link.
        link: String,
        /// What was tried.
        step: String,
        /// What the kernel said.
        cause: String,
    },
    /// The link cannot be looked at, as when it is not there.
    #[error("interface {device} cannot be attached to {link}: {cause}")]
    Link {
        /// The interface.
        device: String,
        /// Its link.
        link: String,
        /// Why.
        cause: NetError,
    },
    /// A link of another kind than a network card or a veth.
    #[error("interface {device} cannot be attached to {link}: {why}\n  fix: {fix}")]
    Unfit {
        /// The interface.
        device: String,
        /// Its link.
        link: String,
        /// What it is.
        why: String,
        /// What to do.
        fix: String,
    },
    /// The link would take the director's frames for the host's, or the other way round.
    #[error(
        "interface {device} cannot be attached to {link}: both have the MAC address {mac}\n  fix: give the interface another one: mac = \"02:...\""
    )]
    SameMac {
        /// The interface.
        device: String,
        /// Its link.
        link: String,
        /// The address.
        mac: MacAddr,
    },
    /// A network card takes only its own frames, and may not be told to take the director's.
    #[error(
        "{link} cannot be told to take frames to the director's MAC address: {}\n  fix: {}",
        if *cause == Errno::EPERM { "CAP_NET_RAW is missing".to_owned() } else { cause.desc().to_owned() },
        if *cause == Errno::EPERM {
            format!("grant it too: setcap cap_bpf,cap_net_admin,cap_net_raw+ep, docker run --cap-add NET_RAW; or make the card promiscuous: ip link set {link} promisc on")
        } else {
            format!("make it promiscuous: ip link set {link} promisc on; or use a bridge")
        }
    )]
    Filtered {
        /// The link.
        link: String,
        /// What the kernel said.
        cause: Errno,
    },
    /// Anything else.
    #[error("interface {device} cannot be attached to {link}: cannot {step}: {cause}")]
    Failed {
        /// The interface.
        device: String,
        /// Its link.
        link: String,
        /// What was tried.
        step: String,
        /// What the kernel said.
        cause: String,
    },
}

impl AttachError {
    pub(crate) fn unfit(pair: &Pair, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Unfit { device: pair.device.clone(), link: pair.link.clone(), why: why.into(), fix: fix.into() }
    }

    /// What it means that the kernel refused.
    pub(crate) fn refused(pair: &Pair, refusal: Refusal) -> Self {
        let Pair { device, link, .. } = pair.clone();
        let Refusal { step, errno, text } = refusal;
        match errno {
            Some(Errno::EPERM | Errno::EACCES) if text_of_verifier(&text).is_none() => {
                Self::NoCapability { missing: capabilities::missing(), link }
            }
            // No bpf(2) at all, no such attach type.
            Some(Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP) if step.starts_with("attach") => {
                Self::NoTcx { device, link, step, cause: text }
            }
            Some(Errno::ENOSYS) => Self::NoTcx { device, link, step, cause: text },
            _ => Self::Failed { device, link, step, cause: text },
        }
    }
}

/// What the verifier says against a program: it refuses with EACCES, too.
pub(crate) fn text_of_verifier(text: &str) -> Option<&str> {
    text.split_once("Verifier output: ").map(|(_, output)| output.trim()).filter(|output| !output.is_empty())
}
