//! The words about a module that is to take over: its steps, why it was refused, the report.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{LoadError, LoadReason};

/// Where on its way in a module was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// There is no such service, file, previous module or trial.
    Find,
    /// The file cannot be read, or is too large.
    Read,
    /// Its SHA-256 is not the one that was pinned.
    Pin,
    /// It is no WebAssembly that compiles.
    Compile,
    /// It is not of the contract, or of another version of it.
    Contract,
    /// It does not start, or refuses its options.
    Start,
    /// It fails when it is told the destinations.
    Update,
    /// It fails when it is handed the state of the one before.
    Restore,
    /// It fails or answers nonsense when the latest picks are put to it.
    Replay,
    /// The destinations changed again and again.
    Swap,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Find,
        Self::Read,
        Self::Pin,
        Self::Compile,
        Self::Contract,
        Self::Start,
        Self::Update,
        Self::Restore,
        Self::Replay,
        Self::Swap,
    ];

    /// Its name in metrics and status.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Find => "find",
            Self::Read => "read",
            Self::Pin => "pin",
            Self::Compile => "compile",
            Self::Contract => "contract",
            Self::Start => "start",
            Self::Update => "update",
            Self::Restore => "restore",
            Self::Replay => "replay",
            Self::Swap => "swap",
        }
    }
}

/// Why a module did not take over. The one before serves on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("refused at the step `{}`: {reason}", .step.label())]
pub struct Refusal {
    /// How far it came.
    pub step: Step,
    /// What is wrong and how to fix it.
    pub reason: String,
    /// What is wrong with the module itself, where it is that. Not told to others.
    #[serde(skip)]
    pub fault: Option<Fault>,
}

/// What is wrong with a module, and how to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// With where the module comes from in front.
    pub what: String,
    /// In one line.
    pub fix: String,
}

impl Refusal {
    pub(crate) fn new(step: Step, reason: impl Into<String>) -> Self {
        Self { step, reason: reason.into(), fault: None }
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        let step = match &error.reason {
            LoadReason::Unreadable(_) | LoadReason::TooLarge { .. } => Step::Read,
            LoadReason::NotWasm { .. }
            | LoadReason::UnknownLayer { .. }
            | LoadReason::Invalid(_)
            | LoadReason::TooComplex { .. }
            | LoadReason::CompileTime { .. }
            | LoadReason::CompileMemory { .. }
            | LoadReason::AddressSpace { .. }
            | LoadReason::Compiler(_) => Step::Compile,
            LoadReason::CoreModule
            | LoadReason::ForeignImport { .. }
            | LoadReason::ContractVersion { .. }
            | LoadReason::MissingExport { .. }
            | LoadReason::Mismatch(_) => Step::Contract,
            LoadReason::Start { .. } => Step::Start,
        };
        let fault = Some(Fault { what: error.to_string(), fix: error.fix() });
        Self { fault, ..Self::new(step, error.sentence()) }
    }
}

/// Who wanted a module to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The configuration: the start, or a reload of it.
    Configuration,
    /// Its file changed.
    Watch,
    /// `uvs sched load`.
    Load,
    /// `uvs sched rollback`.
    Rollback,
    /// `uvs sched promote`.
    Promote,
}

/// A module that took over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReport {
    /// Where it came from.
    pub origin: String,
    /// SHA-256 of the component, in hex.
    pub sha256: String,
    /// Whether its compiled code came out of the cache.
    pub cached: bool,
    /// Whether it took over the state of the one before.
    pub restored: bool,
    /// Picks it was tried with.
    pub replayed: u64,
    /// Of them, those where it answered as the one before.
    pub same: u64,
    /// All of it, in microseconds.
    pub took_us: u64,
    /// How long connections waited for the exchange, in nanoseconds.
    pub swap_ns: u64,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, sha256, restored, replayed, same, .. } = self;
        let state = if *restored { "goes on with the state of the one before" } else { "starts afresh" };
        write!(f, "{origin} (sha256 {sha256}) {state}; {same} of {replayed} picks were the same")
    }
}
