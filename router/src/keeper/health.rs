//! How the interfaces are, for whoever asks.

use std::sync::{Mutex, PoisonError};

/// Whether an interface does what it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// All of the host that it needs is as configured.
    #[default]
    Up,
    /// Something is missing: frames may not get through.
    Degraded,
    /// It has no device.
    Down,
}

impl State {
    /// All states.
    pub const ALL: [Self; 3] = [Self::Up, Self::Degraded, Self::Down];

    /// The word in metrics and in `uvs status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// What a device of the host is to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Its own TUN or TAP device.
    Device,
    /// The bridge that its TAP is in.
    Bridge,
    /// A port of that bridge that the configuration names.
    Port,
    /// The link that it is attached to.
    Link,
}

impl Role {
    /// The word in metrics and in `uvs status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Bridge => "bridge",
            Self::Port => "port",
            Self::Link => "link",
        }
    }
}

/// What a device of the host lost since the director started, by the kernel's counters. To receive is towards the
/// director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLosses {
    /// The device.
    pub device: String,
    /// What it is to the interface.
    pub role: Role,
    /// On the way to the director: dropped, and broken.
    pub receive: (u64, u64),
    /// On the way from the director: dropped, and failed.
    pub transmit: (u64, u64),
}

/// How one interface is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceHealth {
    /// In a word.
    pub state: State,
    /// What is wrong, a sentence each; none when it is up.
    pub reasons: Vec<String>,
    /// The MTU in force, in bytes: the configured one, or the link's where that is smaller.
    pub mtu: u32,
    /// How often something of it was made again.
    pub repairs: u64,
    /// What it lost outside the director.
    pub losses: Vec<DeviceLosses>,
}

/// How the interfaces were when the keeper looked last.
#[derive(Debug, Default)]
pub struct Health(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    interfaces: Vec<InterfaceHealth>,
    notices: Vec<String>,
}

impl Health {
    /// By port; none before the first look.
    pub fn interfaces(&self) -> Vec<InterfaceHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).interfaces.clone()
    }

    /// What concerns the director as a whole, a sentence each.
    pub fn notices(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).notices.clone()
    }

    pub(super) fn show(&self, interfaces: Vec<InterfaceHealth>, notices: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Inner { interfaces, notices };
    }
}
