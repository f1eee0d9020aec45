//! Why a module cannot be used.

use std::time::Duration;

use crate::stats::Cause;

/// A module that was refused: where it came from, what is wrong and how to fix it.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct LoadError {
    /// The file, or the name of a shipped scheduler.
    pub origin: String,
    /// What is wrong.
    #[source]
    pub reason: LoadReason,
}

impl LoadError {
    /// How to fix it, in one line.
    pub fn fix(&self) -> String {
        self.reason.fix()
    }

    /// What and how to fix in one line, for callers that have room for one.
    pub fn sentence(&self) -> String {
        format!("{self}; {}", self.fix())
    }
}

/// What is wrong with a module.
#[derive(Debug, thiserror::Error)]
pub enum LoadReason {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// Over [`crate::Policy::module_bytes`].
    #[error("is {} bytes long, and the limit is {limit}", .bytes.map_or("too many".into(), |n| n.to_string()))]
    TooLarge {
        /// Its size where known.
        bytes: Option<u64>,
        /// The limit.
        limit: usize,
    },
    /// No WebAssembly at all.
    #[error("is not WebAssembly: {found}")]
    NotWasm {
        /// What it is instead.
        found: String,
        /// Whether it is WebAssembly in text form.
        text: bool,
    },
    /// A core module, not a component.
    #[error("is a core WebAssembly module, and a scheduler is a component")]
    CoreModule,
    /// A preamble of a version that is not known.
    #[error("is WebAssembly of an unknown kind (version {version}, layer {layer})")]
    UnknownLayer {
        /// Version field of the preamble.
        version: u16,
        /// Layer field of the preamble.
        layer: u16,
    },
    /// A component that does not validate or compile.
    #[error("does not compile: {0}")]
    Invalid(String),
    /// Its structure is past a bound of the contract (docs/contract.md).
    #[error("has {what}: {found}, and the limit is {limit}")]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// How much was found; there may be more.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// Over [`crate::Policy::compile_time`].
    #[error("takes longer than {} s to compile", .limit.as_secs())]
    CompileTime {
        /// The limit.
        limit: Duration,
    },
    /// Over [`crate::Policy::compile_bytes`].
    #[error("takes more than {} MiB of memory to compile", .limit >> 20)]
    CompileMemory {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The system's limit of address space is below what compiling may take.
    #[error("needs more memory to compile than the limit of this process's address space leaves, {} MiB", .limit >> 20)]
    AddressSpace {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The process that compiles did not do its work.
    #[error("cannot be compiled: {0}")]
    Compiler(String),
    /// It wants something that is not granted.
    #[error("imports {}, and a scheduler is given nothing but log, random and now-ms", .names.join(", "))]
    ForeignImport {
        /// The names, as in the component.
        names: Vec<String>,
    },
    /// Built for another version of the contract.
    #[error("was built for version {found} of the contract uvs:scheduler, and this uvs speaks {ours}")]
    ContractVersion {
        /// What the component asks for.
        found: String,
        /// What the host has.
        ours: &'static str,
    },
    /// Exports are missing.
    #[error("does not export {}", .names.join(", "))]
    MissingExport {
        /// Their names.
        names: Vec<String>,
    },
    /// An import or export has another type than in the contract.
    #[error("does not fit the contract uvs:scheduler: {0}")]
    Mismatch(String),
    /// It failed while being instantiated.
    #[error("fails when it is started ({cause}): {message}")]
    Start {
        /// By which cause.
        cause: Cause,
        /// In its words.
        message: String,
    },
}

impl LoadReason {
    fn fix(&self) -> String {
        match self {
            Self::Unreadable(error) if error.kind() == std::io::ErrorKind::NotFound => {
                "check the path; it is taken relative to where uvs was started".into()
            }
            Self::Unreadable(_) => "give a regular file that uvs may read".into(),
            Self::TooLarge { .. } => {
                "strip it: build with opt-level \"s\", lto, strip = true; or let it be larger: `module_mib` of its [[scheduler]]"
                    .into()
            },
            Self::NotWasm { text: true, .. } => "turn it into a binary with `wasm-tools parse`".into(),
            Self::NotWasm { .. } => "give the .wasm file that a build of the scheduler makes".into(),
            Self::CoreModule => {
                "wrap it with `wasm-tools component new MODULE.wasm -o COMPONENT.wasm`".into()
            }
            Self::UnknownLayer { .. } | Self::Invalid(_) => {
                "build it again with current tools, as a component without proposals beyond WebAssembly 3.0"
                    .into()
            }
            Self::TooComplex { .. } => {
                "build it with optimisation, and split what is generated into smaller functions; docs/contract.md has \
                 the limits"
                    .into()
            }
            Self::CompileTime { .. } => {
                "make its functions smaller, or give it longer: compile_time under [modules]".into()
            }
            Self::CompileMemory { .. } => {
                "make its functions smaller, or give it more: compile_mib under [modules]".into()
            }
            Self::AddressSpace { .. } => {
                "raise it (ulimit -v unlimited, LimitAS=infinity in a unit of systemd), and bound memory by a cgroup \
                 (MemoryMax=) instead"
                    .into()
            }
            Self::Compiler(_) => {
                "uvs starts itself (/proc/self/exe) to compile: see that /proc is mounted, and that memory and \
                 processes are left"
                    .into()
            }
            Self::ForeignImport { names } if names.iter().any(|name| name.starts_with("wasi:")) => {
                "build it for wasm32-unknown-unknown, where nothing reaches for WASI".into()
            }
            Self::ForeignImport { .. } => "remove what uses them".into(),
            Self::ContractVersion { ours, .. } => {
                format!("build it with the uvs-sdk of this release (contract {ours})")
            }
            Self::MissingExport { .. } | Self::Mismatch(_) => {
                "implement the world `scheduler` of wit/scheduler.wit; uvs-sdk does".into()
            }
            Self::Start { .. } => {
                "repair the module; nothing of the service had been passed to it yet".into()
            }
        }
    }
}

/// A module that loads but does not start for a service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `init` answered with an error.
    #[error("refuses its options {options:?}: {message}")]
    Refused {
        /// What it was given.
        options: String,
        /// Its own words.
        message: String,
    },
    /// It trapped, ran out of fuel, ...
    #[error("fails in {call} ({cause}): {message}")]
    Failed {
        /// During which call.
        call: &'static str,
        /// By which cause.
        cause: Cause,
        /// In the host's words.
        message: String,
    },
}

/// An error with its causes in one line.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
