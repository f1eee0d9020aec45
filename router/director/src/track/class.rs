//! Classes of entries: what makes room at the limit of the table, and what stays.
//!
//! ```text
//!   weight 8   nobody would miss the oldest: over, half open, only the client's word, a template that nobody confirmed
//!   weight 1   in use once, and now perhaps not: closing, one direction alone, a template without connections
//!   weight 0   established, and both ends were heard
//! ```
//! The class with the most entries, times its weight, makes room: a flood of whatever kind makes its own class the
//! largest.

/// So many packets from its client and a connection may well be in use.
pub(crate) const USED: u8 = 3;

/// What an entry is to somebody who looks for room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    /// Established, and its destination was heard: never makes room.
    #[default]
    Established,
    /// Both ends have closed it, or one has reset it.
    Ended,
    /// Its handshake is not done; with UDP and NAT, no destination has answered.
    HalfOpen,
    /// Established as its client says, by fewer packets than [`USED`]; with UDP also if that was answered.
    Claimed,
    /// A template whose connections were never established.
    Template,
    /// One end has closed it.
    Closing,
    /// Established as its client says, by more packets; UDP of which as many passed.
    OneSided,
    /// A template of which a connection was established.
    ConfirmedTemplate,
}

impl Class {
    /// How many there are.
    pub(crate) const COUNT: usize = 8;
    /// Those that make room, the ones that go first among equals first.
    pub(crate) const ALL: [Self; Self::COUNT - 1] = [
        Self::Ended,
        Self::HalfOpen,
        Self::Claimed,
        Self::Template,
        Self::Closing,
        Self::OneSided,
        Self::ConfirmedTemplate,
    ];

    #[inline]
    pub(crate) const fn index(self) -> usize {
        self as usize
    }

    /// As metrics name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::Ended => "ended",
            Self::HalfOpen => "half_open",
            Self::Claimed => "claimed",
            Self::Template => "template",
            Self::Closing => "closing",
            Self::OneSided => "one_sided",
            Self::ConfirmedTemplate => "confirmed_template",
        }
    }

    pub(crate) const fn weight(self) -> u64 {
        match self {
            Self::Established => 0,
            Self::Ended | Self::HalfOpen | Self::Claimed | Self::Template => 8,
            Self::Closing | Self::OneSided | Self::ConfirmedTemplate => 1,
        }
    }

    /// Of these the one goes that was silent for longest, of others the oldest.
    pub(crate) const fn goes_by_silence(self) -> bool {
        self.weight() == 1
    }

    /// Whether packets of such an entry may have passed in the flow cache without a word.
    pub(crate) const fn is_told_late(self) -> bool {
        matches!(self, Self::Claimed | Self::Closing | Self::OneSided)
    }
}
