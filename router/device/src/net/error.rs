//! What could not be done about the network, why, and how to fix it.

use std::fmt;
use std::io;

use nix::errno::Errno;

/// Something about the network could not be done. The text says what, where, why and how to fix it.
#[derive(Debug)]
pub struct NetError {
    step: String,
    cause: Cause,
}

/// Why a step failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// There is no link of this name.
    NoLink(String),
    /// The link of this name is of another kind.
    NotABridge(String),
    /// The link of this name cannot be plugged into a bridge.
    NotAPort(String),
    /// The system refused.
    Os(io::Error),
}

impl NetError {
    pub(crate) fn new(step: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self { step: step.into(), cause: cause.into() }
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The system's error number, when it was the system that refused.
    pub fn errno(&self) -> Option<Errno> {
        match &self.cause {
            Cause::Os(error) => error.raw_os_error().map(Errno::from_raw),
            Cause::NoLink(_) | Cause::NotABridge(_) | Cause::NotAPort(_) => None,
        }
    }

    /// The same cause, as that of a larger step.
    pub(crate) fn during(mut self, step: impl Into<String>) -> Self {
        self.step = step.into();
        self
    }

    /// Whether what was to be removed or put back is not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        match self.errno() {
            None => matches!(self.cause, Cause::NoLink(_)),
            Some(Errno::ENODEV | Errno::ENOENT | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO) => true,
            Some(_) => false,
        }
    }

    fn fix(&self) -> Option<&'static str> {
        match &self.cause {
            Cause::NoLink(_) => {
                return Some("check the name; `ip link` lists the links of this network namespace");
            }
            Cause::NotABridge(_) => return Some("choose another name for the bridge, or rename that link"),
            Cause::NotAPort(_) => {
                return Some(
                    "choose a link that carries Ethernet and is no bridge: a network card, a veth, a TAP device",
                );
            }
            Cause::Os(_) => {}
        }
        Some(match self.errno()? {
            Errno::EPERM | Errno::EACCES => {
                "CAP_NET_ADMIN is missing in this network namespace: run as root, or grant it (setcap cap_net_admin+ep, docker run --cap-add NET_ADMIN)"
            }
            Errno::EROFS => {
                "/proc/sys is read-only here, as in containers: set it from outside (docker run --sysctl), or mount it writable"
            }
            Errno::EEXIST => "remove the one that exists, or choose another",
            Errno::EBUSY => {
                "the link is in use by something else, a bond or another bridge perhaps: free it first"
            }
            Errno::ENETUNREACH | Errno::EHOSTUNREACH => {
                "the gateway must lie in a subnet of a link that is up"
            }
            Errno::ENETDOWN => "bring the link up first: ip link set NAME up",
            Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT => {
                "the kernel, or the driver of this link, lacks that feature"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: ", self.step)?;
        match &self.cause {
            Cause::NoLink(name) => write!(f, "there is no link {name}")?,
            Cause::NotABridge(name) => write!(f, "the link {name} exists and is not a bridge")?,
            Cause::NotAPort(name) => write!(f, "the link {name} cannot be the port of a bridge")?,
            Cause::Os(error) => write!(f, "{error}")?,
        }
        self.fix().map_or(Ok(()), |fix| write!(f, "\n  fix: {fix}"))
    }
}

impl std::error::Error for NetError {}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

impl From<rtnetlink::Error> for Cause {
    fn from(error: rtnetlink::Error) -> Self {
        Self::Os(match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        })
    }
}
