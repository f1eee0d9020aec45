//! What came of one probe.

use std::borrow::Cow;

use uvs_director::Duration;

use crate::net::Failure;
use crate::weight::{Admin, Share};

/// Words for people. Most that is found is always the same.
pub type Text = Cow<'static, str>;

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it says of the server.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// What else the server said of itself.
    pub says: Says,
}

impl Outcome {
    /// A verdict and nothing else.
    pub fn plain(verdict: Verdict, took: Duration) -> Self {
        Self { verdict, took, says: Says::default() }
    }
}

/// What a probe says of the server. The text is for people: fit to be shown, and short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Pass(Text),
    /// It does not.
    Fail(Text),
    /// Nothing: the probe could not be made.
    Unmade(Text),
}

impl Verdict {
    /// Why, or what was found.
    pub fn text(&self) -> &Text {
        match self {
            Self::Pass(text) | Self::Fail(text) | Self::Unmade(text) => text,
        }
    }
}

impl From<Failure> for Verdict {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Local(why) => Self::Unmade(why.to_string().into()),
            Failure::Remote(why) => Self::Fail(why.to_string().into()),
        }
    }
}

/// What a server says of itself beside working or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Says {
    /// What it wants to weigh.
    pub share: Option<Share>,
    /// An agent's administrative state.
    pub admin: Option<Admin>,
    /// An agent's word on health: up or down.
    pub up: Option<bool>,
    /// When its certificate expires, in seconds since 1970.
    pub expires: Option<i64>,
    /// Whether that is so soon that it should be told.
    pub expires_soon: bool,
}
