//! What a command is about: a module's file, or a shipped scheduler by its name.

use core::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use uvs_director::scheduler::{Scheduler, Wlc};
use uvs_plugin::{Host, Limits, Module, Plugin, Policy, SHIPPED, StartError, native};

/// The native scheduler that stands beside a module that has no twin.
pub(crate) const PLAIN: &str = "rr";

/// A module that was read but not judged.
pub(crate) struct Subject {
    /// As it was given.
    pub(crate) name: String,
    /// Its size.
    pub(crate) size: u64,
    /// Its content; `None` where the file is larger than uvs takes.
    pub(crate) bytes: Option<Vec<u8>>,
    /// SHA-256 in hex.
    pub(crate) sha256: String,
}

impl Subject {
    /// Reads a file, or takes what is built in under that name. A file called like a shipped scheduler is meant
    /// with its path (`./rr`).
    pub(crate) fn read(name: &str, limit: usize) -> Result<Self> {
        if let Some((_, bytes)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            let sha256 = hex(&Sha256::digest(bytes));
            return Ok(Self {
                name: name.to_owned(),
                size: bytes.len() as u64,
                bytes: Some(bytes.to_vec()),
                sha256,
            });
        }
        let path = Path::new(name);
        let mut file = File::open(path).with_context(|| unreadable(path))?;
        let meta = file.metadata().with_context(|| unreadable(path))?;
        if !meta.is_file() {
            bail!("{name} is not a regular file\n  fix:   give the .wasm file of a scheduler");
        }
        let (mut hash, mut bytes, mut size) = (Sha256::new(), Vec::new(), 0u64);
        let mut chunk = vec![0; 1 << 16];
        loop {
            let n = file.read(&mut chunk).with_context(|| unreadable(path))?;
            if n == 0 {
                break;
            }
            hash.update(&chunk[..n]);
            size += n as u64;
            if size <= limit as u64 {
                bytes.extend_from_slice(&chunk[..n]);
            }
        }
        let bytes = (size <= limit as u64).then_some(bytes);
        Ok(Self { name: name.to_owned(), size, bytes, sha256: hex(&hash.finalize()) })
    }

    /// Reads and compiles it.
    pub(crate) fn load(name: &str, host: &Host) -> Result<(Self, Module)> {
        let subject = Self::read(name, host.policy().module_bytes)?;
        let module = match &subject.bytes {
            Some(bytes) => host.compile(name, bytes).map_err(|error| (error.to_string(), error.fix())),
            None => {
                let limit = host.policy().module_bytes;
                let what = format!("{name}: is {} bytes long, and the limit is {limit}", subject.size);
                let fix = "strip it: build with opt-level \"s\", lto, strip = true; or raise the limit with --module-mib";
                Err((what, fix.to_owned()))
            }
        };
        match module {
            Ok(module) => Ok((subject, module)),
            Err((what, fix)) => bail!("{what}\n  fix:   {fix}"),
        }
    }

    /// The shipped scheduler it is, by its content.
    pub(crate) fn twin(&self) -> Option<&'static str> {
        let bytes = self.bytes.as_ref()?;
        SHIPPED.iter().find(|(_, shipped)| shipped == bytes).map(|(name, _)| *name)
    }

    /// Its name without folders and extension, for tables.
    pub(crate) fn short(&self) -> String {
        Path::new(&self.name)
            .file_stem()
            .map_or_else(|| self.name.clone(), |stem| stem.to_string_lossy().into_owned())
    }
}

/// The native scheduler to hold a subject against: its twin, with its options, else [`PLAIN`].
pub(crate) fn native_of(
    subject: &Subject,
    options: &str,
    seed: u64,
) -> Result<(&'static str, Box<dyn Scheduler>)> {
    let (name, options) = subject.twin().map_or((PLAIN, ""), |twin| (twin, options));
    let scheduler = native(name, "bench", options, seed).map_err(anyhow::Error::msg)?;
    Ok((name, scheduler))
}

/// The limits that a `[[scheduler]]` of the configuration may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct LimitArgs {
    /// The largest file that is taken, in MiB, as `module_mib` of a [[scheduler]]; one with Python needs 32
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub module_mib: Option<u32>,
    /// How many times the usual fuel each call gets, as `fuel` of a [[scheduler]]; one with Python needs 16
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fuel: Option<u32>,
}

/// The engine for offline work. A module is never ejected where `patient`, so that every failure shows.
pub(crate) fn host(patient: bool, limits: &LimitArgs) -> Result<Host> {
    let mut policy = Policy::default();
    if patient {
        policy.failures = u32::MAX;
    }
    let host = Host::new(policy).map_err(anyhow::Error::msg)?;
    let LimitArgs { module_mib, fuel } = *limits;
    Ok(host.limited(Limits { module_mib, fuel: fuel.unwrap_or(1) }))
}

/// An instance with the fallback that a director would put behind it.
pub(crate) fn start(module: &Module, options: &str, seed: u64) -> Result<Plugin, StartError> {
    Plugin::new(module, SERVICE, options, Box::new(Wlc::default()), seed)
}

/// [`start`], with an error for a person.
pub(crate) fn must_start(module: &Module, options: &str, seed: u64) -> Result<Plugin> {
    start(module, options, seed).map_err(|error| {
        let fix = match error {
            StartError::Refused { .. } => "give the options it takes with --options",
            StartError::Failed { .. } => "`uvs sched test` tells where it fails",
        };
        anyhow::anyhow!("{} {error}\n  fix:   {fix}", module.name())
    })
}

/// What a director would call the service.
pub(crate) const SERVICE: &str = "tcp 192.0.2.10:443";

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

fn unreadable(path: &Path) -> String {
    let names: Vec<_> = SHIPPED.iter().map(|(name, _)| *name).collect();
    format!("cannot read {} (shipped schedulers are {})", path.display(), names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shipped_name_is_a_subject_with_itself_as_twin() {
        let subject = Subject::read("wlc", 1 << 20).unwrap();
        assert_eq!((subject.twin(), subject.short().as_str()), (Some("wlc"), "wlc"));
        assert_eq!(subject.sha256.len(), 64);
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }

    #[test]
    fn a_file_over_the_limit_is_told_by_size_and_sum_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        let name = file.path().to_str().unwrap();
        let subject = Subject::read(name, 2).unwrap();
        assert_eq!((subject.size, subject.bytes), (3, None));
        assert!(subject.sha256.starts_with("ba7816bf"));
        assert_eq!(Subject::read(name, 3).unwrap().bytes.as_deref(), Some(&b"abc"[..]));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_the_names_there_are() {
        let said = format!("{:#}", Subject::read("no-such.wasm", 9).err().unwrap());
        assert!(said.contains("no-such.wasm") && said.contains("wlc"), "{said}");
        assert!(Subject::read("/", 9).err().unwrap().to_string().contains("not a regular file"));
    }
}
