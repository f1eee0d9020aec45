//! From the bytes of a component to a module that fits the contract.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::bindings::SchedulerIndices;
use crate::code::Code;
use crate::error::{LoadError, LoadReason, StartError, one_line};
use crate::host::Host;
use crate::instance::Instance;
use crate::module::{Inner, Module};
use crate::optional::ObserverIndices;
use crate::shape;
use crate::shipped::SHIPPED;

/// The version of the contract (the package `uvs:scheduler`) that this host speaks.
pub const CONTRACT: &str = "0.1.0";

const PACKAGE: &str = "uvs:scheduler/";
const IMPORTS: [&str; 3] = ["log", "random", "now-ms"];
/// The optional part of the contract.
const FEEDBACK: &str = "uvs:scheduler/feedback@0.1.0";
const EXPORTS: [&str; 5] = ["init", "update", "schedule", "save", "restore"];

impl Host {
    /// Compiles a component and checks that it fits the contract. Takes 5 to 50 ms for a compiled language,
    /// seconds for one with an interpreter: never call it on the packet path.
    ///
    /// # Errors
    /// What is wrong with the bytes; `origin` is where they came from, for the message.
    pub fn compile(&self, origin: &str, bytes: &[u8]) -> Result<Module, LoadError> {
        self.compile_bytes(bytes, origin).map_err(|reason| LoadError { origin: origin.to_owned(), reason })
    }

    /// Reads and compiles a file.
    ///
    /// # Errors
    /// As [`Host::compile`], and a file that cannot be read.
    pub fn load(&self, path: &Path) -> Result<Module, LoadError> {
        let origin = path.display().to_string();
        let bytes = self.read(path).map_err(|reason| LoadError { origin: origin.clone(), reason })?;
        self.compile(&origin, &bytes)
    }

    /// Compiles a file and runs `init` with `options`, as a service would, without any traffic.
    ///
    /// # Errors
    /// A sentence with what is wrong and how to fix it.
    pub fn check(&self, path: &Path, options: &str) -> Result<Module, String> {
        let module = self.load(path).map_err(|error| error.sentence())?;
        module.check(options).map_err(|error| format!("{}: {error}", module.name()))?;
        Ok(module)
    }

    /// The bytes of a module's file, never more than the limit of them.
    pub(crate) fn read(&self, path: &Path) -> Result<Vec<u8>, LoadReason> {
        let limit = self.policy().module_bytes;
        // To open a FIFO without this waits for somebody who opens its other end.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(LoadReason::Unreadable)?;
        let meta = file.metadata().map_err(LoadReason::Unreadable)?;
        if !meta.is_file() {
            // A FIFO or a device could block for ever or have no end.
            let what = if meta.is_dir() { "it is a directory" } else { "it is not a regular file" };
            return Err(LoadReason::Unreadable(std::io::Error::other(what)));
        }
        if meta.len() > limit as u64 {
            return Err(LoadReason::TooLarge { bytes: Some(meta.len()), limit });
        }
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(LoadReason::Unreadable)?;
        Ok(bytes)
    }

    fn compile_bytes(&self, bytes: &[u8], origin: &str) -> Result<Module, LoadReason> {
        let limit = self.policy().module_bytes;
        if bytes.len() > limit {
            return Err(LoadReason::TooLarge { bytes: Some(bytes.len() as u64), limit });
        }
        check_preamble(bytes)?;
        let sha256: [u8; 32] = Sha256::digest(bytes).into();
        let (component, cached) = self.translate(bytes, &sha256)?;
        self.check_contract(&component)?;
        let pre = self
            .linker()
            .instantiate_pre(&component)
            .map_err(|error| LoadReason::Mismatch(one_line(&error)))?;
        let indices = SchedulerIndices::new(&pre).map_err(|error| LoadReason::Mismatch(one_line(&error)))?;
        let observer = match component.get_export_index(None, FEEDBACK) {
            Some(_) => {
                Some(ObserverIndices::new(&pre).map_err(|error| LoadReason::Mismatch(one_line(&error)))?)
            }
            None => None,
        };
        let module = Module {
            inner: Arc::new(Inner {
                host: self.clone(),
                pre,
                indices,
                observer,
                name: origin.to_owned(),
                bytes: bytes.len(),
                sha256,
                cached,
            }),
        };
        // Types are compared when an instance is made: make one, so that a misfit shows here.
        match Instance::new(&module, "check", 0) {
            Ok(_) => Ok(module),
            Err(crash) if crash.link => Err(LoadReason::Mismatch(crash.message)),
            Err(crash) => Err(LoadReason::Start { cause: crash.cause, message: crash.message }),
        }
    }

    /// The component's code, out of the cache if it is there; whether it was.
    fn translate(&self, bytes: &[u8], sha256: &[u8; 32]) -> Result<(Component, bool), LoadReason> {
        let engine = self.engine();
        let cache = self.cache();
        if let Some(component) = cache.and_then(|cache| cache.load(engine, sha256)) {
            return Ok((component, true));
        }
        shape::check(bytes)?;
        let code = match self.compiler() {
            // What ships with uvs was compiled by those who made it.
            Some(compiler) if !is_shipped(bytes) => compiler.compile(self.policy(), bytes)?,
            _ => engine
                .precompile_component(bytes)
                .map(Code::of_our_compiler)
                .map_err(|error| LoadReason::Invalid(one_line(&error)))?,
        };
        let component = code.load(engine).map_err(|error| LoadReason::Compiler(one_line(&error)))?;
        if let Some(cache) = cache {
            cache.store(engine, sha256, &code);
        }
        Ok((component, false))
    }

    fn check_contract(&self, component: &Component) -> Result<(), LoadReason> {
        let ty = component.component_type();
        let engine = self.engine();
        let mut foreign = Vec::new();
        for (name, item) in ty.imports(engine) {
            if let Some(found) = other_version(name) {
                return Err(LoadReason::ContractVersion { found: found.to_owned(), ours: CONTRACT });
            }
            let known = match item.ty {
                ComponentItem::ComponentFunc(_) => IMPORTS.contains(&name),
                ComponentItem::ComponentInstance(_) => is_types(name),
                ComponentItem::Type(_) => true,
                _ => false,
            };
            if !known {
                foreign.push(name.to_owned());
            }
        }
        let mut missing: Vec<_> = EXPORTS.iter().map(|&name| name.to_owned()).collect();
        for (name, item) in ty.exports(engine) {
            if let Some(found) = other_version(name) {
                return Err(LoadReason::ContractVersion { found: found.to_owned(), ours: CONTRACT });
            }
            if matches!(item.ty, ComponentItem::ComponentFunc(_)) {
                missing.retain(|wanted| wanted != name);
            }
        }
        if !foreign.is_empty() {
            return Err(LoadReason::ForeignImport { names: foreign });
        }
        if !missing.is_empty() {
            return Err(LoadReason::MissingExport { names: missing });
        }
        Ok(())
    }
}

impl Module {
    /// Makes an instance and passes it `options`, as a service would.
    ///
    /// # Errors
    /// The options are refused, or the module fails.
    pub fn check(&self, options: &str) -> Result<(), StartError> {
        Instance::start(self, "check", options, 0).map(drop)
    }
}

/// Whether it is one of the components that are built into uvs.
fn is_shipped(bytes: &[u8]) -> bool {
    SHIPPED.iter().any(|(_, shipped)| *shipped == bytes)
}

/// What the first bytes say: only a component may pass.
fn check_preamble(bytes: &[u8]) -> Result<(), LoadReason> {
    let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
        let found =
            if bytes.is_empty() { "the file is empty".into() } else { format!("{} bytes", bytes.len()) };
        return Err(LoadReason::NotWasm { found, text: false });
    };
    if magic != b"\0asm" {
        let text = bytes.trim_ascii_start().starts_with(b"(");
        let found = match (magic, text) {
            (_, true) => "it looks like WebAssembly text".into(),
            (b"\x7fELF", _) => "it is an ELF file, built for a machine and not for wasm32".into(),
            _ => format!("it begins with {}", magic.escape_ascii()),
        };
        return Err(LoadReason::NotWasm { found, text });
    }
    // Component model binary format: version and layer share what is one version field in a core module.
    match rest.first_chunk::<4>() {
        Some(&[0x0d, 0, 1, 0]) => Ok(()),
        Some(&[1, 0, 0, 0]) => Err(LoadReason::CoreModule),
        Some(&[a, b, c, d]) => Err(LoadReason::UnknownLayer {
            version: u16::from_le_bytes([a, b]),
            layer: u16::from_le_bytes([c, d]),
        }),
        None => Err(LoadReason::NotWasm { found: "it ends after the first bytes".into(), text: false }),
    }
}

/// Whether `name` is the types interface of the contract (in a version that [`other_version`] let pass).
fn is_types(name: &str) -> bool {
    name.strip_prefix(PACKAGE).is_some_and(|rest| rest == "types" || rest.starts_with("types@"))
}

/// The version in the name of an interface of our package, if it is one we do not speak.
///
/// By semver: below 1.0 the minor number has to agree, and a later patch may hold what we lack.
fn other_version(name: &str) -> Option<&str> {
    let version = name.strip_prefix(PACKAGE)?.split_once('@')?.1;
    let numbers = |text: &str| -> Option<[u64; 3]> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(numbers)
    };
    let fits = match (numbers(version), numbers(CONTRACT)) {
        (Some([major, minor, patch]), Some([our_major, our_minor, our_patch])) => {
            (major, minor) == (our_major, our_minor) && patch <= our_patch
        }
        _ => false,
    };
    (!fits).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_semver() {
        let cases = [
            ("uvs:scheduler/types@0.1.0", None, "ours"),
            ("uvs:scheduler/types@0.1.1", Some("0.1.1"), "a later patch"),
            ("uvs:scheduler/types@0.2.0", Some("0.2.0"), "a later minor below 1.0"),
            ("uvs:scheduler/types@1.1.0", Some("1.1.0"), "another major"),
            ("uvs:scheduler/types@0.1.0-rc.1", Some("0.1.0-rc.1"), "a pre-release"),
            ("uvs:scheduler/types", None, "no version to compare"),
            ("wasi:cli/environment@0.2.0", None, "another package is not our matter here"),
        ];
        for (name, want, why) in cases {
            assert_eq!(other_version(name), want, "{why}");
        }
    }

    #[test]
    fn the_contract_is_the_version_of_the_wit_file() {
        let wit = include_str!("../../../wit/scheduler.wit");
        assert!(wit.contains(&format!("package uvs:scheduler@{CONTRACT};")));
        assert_eq!(FEEDBACK, format!("uvs:scheduler/feedback@{CONTRACT}"));
    }
}
