//! `sched`: the schedulers of the services, and other modules for them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What is to be done. A service is named as `status` names it (`tcp 192.0.2.10:443`); the protocol may be left out
/// where only one service has the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What is to be said about the scheduler of a service, or of each.
    Status {
        /// Only this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Puts a component in place of the module that serves.
    Load {
        /// Which service.
        service: String,
        /// The component, by a path that is absolute or starts in the director's folder. The director opens it where
        /// there is no `content`, and for root and its own user only; for others where the configuration names it.
        file: PathBuf,
        /// The component itself, in base64 (RFC 4648, section 4); `file` only says where it comes from then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// What its SHA-256 has to be, in hex.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// Goes back to the module before.
    Rollback {
        /// Which service.
        service: String,
    },
    /// Lets the module on trial take over.
    Promote {
        /// Which service.
        service: String,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs: of `status` a list of services, of the others what took over. `docs/control.md` has the fields.
    pub data: serde_json::Value,
}
