//! Modules that were compiled.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};

use sha2::{Digest, Sha256};

use crate::base::{hex, lock};
use crate::catalogue::Source;
use crate::error::LoadError;
use crate::host::Host;
use crate::load::{Refusal, Step};
use crate::module::Module;
use crate::policy::Limits;
use crate::shipped::SHIPPED;

/// Modules that are kept though no service runs them; of more, those go that were asked for the longest time ago.
const SPARE: usize = 16;
/// Compilations at one time; more wait for their turn. Each may take as much memory as the policy allows.
const COMPILATIONS: usize = 2;

/// Reads modules and keeps them compiled: all that run, and some more.
///
/// A module is compiled once, however many ask for it at a time; who asks for another one does not wait for it.
pub(crate) struct Store {
    host: Host,
    modules: Mutex<Modules>,
    turns: Turns,
}

#[derive(Default)]
struct Modules {
    entries: HashMap<Key, Entry>,
    /// Goes up with each question.
    asked: u64,
}

/// What one compiled module is for: this content, from there, with these limits.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    origin: String,
    sha256: [u8; 32],
    limits: Limits,
}

#[derive(Default)]
struct Entry {
    /// Empty until it is compiled. Locked while it is.
    module: Arc<Mutex<Option<Module>>>,
    asked: u64,
}

impl Entry {
    /// Whether nobody compiles it, waits for it or runs it.
    fn is_spare(&self) -> bool {
        Arc::strong_count(&self.module) == 1
            && self.module.try_lock().is_ok_and(|module| module.as_ref().is_none_or(Module::is_unused))
    }
}

impl Modules {
    fn ask(&mut self, key: Key) -> Arc<Mutex<Option<Module>>> {
        self.asked += 1;
        let entry = self.entries.entry(key).or_default();
        entry.asked = self.asked;
        Arc::clone(&entry.module)
    }

    /// Forgets what is spare and was not asked for lately.
    fn tidy(&mut self) {
        let mut spare: Vec<u64> =
            self.entries.values().filter(|entry| entry.is_spare()).map(|entry| entry.asked).collect();
        spare.sort_unstable();
        if let Some(newest_to_go) = spare.len().checked_sub(SPARE + 1).map(|last| spare[last]) {
            self.entries.retain(|_, entry| entry.asked > newest_to_go || !entry.is_spare());
        }
    }
}

impl Store {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, modules: Mutex::default(), turns: Turns::new(COMPILATIONS) }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Reads, checks and compiles a module, or takes the one that was compiled.
    ///
    /// # Errors
    /// Why it cannot be used, and how far it came.
    pub(crate) fn fetch(&self, source: &Source) -> Result<Module, Refusal> {
        match source {
            Source::Shipped(name) => {
                let bytes = SHIPPED.iter().find(|(shipped, _)| shipped == name).map(|(_, bytes)| *bytes);
                let bytes = bytes.expect("only names that ship become this source");
                self.compile(Limits::default(), name, bytes, Sha256::digest(bytes).into())
            }
            Source::HandedOver { origin } => Err(Refusal::new(
                Step::Find,
                format!("{origin} was handed over: only who has it can load it again"),
            )),
            Source::File { path, pin, limits } => {
                let host = self.host.limited(*limits);
                let origin = path.display().to_string();
                let bytes = host.read(path).map_err(|reason| LoadError { origin: origin.clone(), reason })?;
                self.take(*limits, &origin, &bytes, *pin)
            }
        }
    }

    /// The module in `bytes`, which come from `origin`.
    ///
    /// # Errors
    /// As [`Store::fetch`].
    pub(crate) fn take(
        &self,
        limits: Limits,
        origin: &str,
        bytes: &[u8],
        pin: Option<[u8; 32]>,
    ) -> Result<Module, Refusal> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        check_pin(origin, pin, &digest)?;
        self.compile(limits, origin, bytes, digest)
    }

    fn compile(
        &self,
        limits: Limits,
        origin: &str,
        bytes: &[u8],
        sha256: [u8; 32],
    ) -> Result<Module, Refusal> {
        let key = Key { origin: origin.to_owned(), sha256, limits };
        let entry = lock(&self.modules).ask(key);
        let mut module = lock(&entry);
        let outcome = match &*module {
            Some(module) => Ok(module.clone()),
            None => {
                let _turn = self.turns.take();
                self.host.limited(limits).compile(origin, bytes)
            }
        };
        if let Ok(compiled) = &outcome {
            *module = Some(compiled.clone());
        }
        drop(module);
        drop(entry);
        let mut modules = lock(&self.modules);
        modules.tidy();
        Ok(outcome?)
    }
}

/// Whether the module is the one that was pinned.
///
/// # Errors
/// It is another one.
fn check_pin(origin: &str, pin: Option<[u8; 32]>, digest: &[u8; 32]) -> Result<(), Refusal> {
    match pin {
        Some(pin) if pin != *digest => {
            let (is, wanted) = (hex(digest), hex(&pin));
            let reason = format!(
                "{origin}: its SHA-256 is {is} and has to be {wanted}; restore the file, or pin the new one"
            );
            Err(Refusal::new(Step::Pin, reason))
        }
        _ => Ok(()),
    }
}

/// So many may have a turn at one time.
struct Turns {
    free: Mutex<usize>,
    given_back: Condvar,
}

impl Turns {
    fn new(free: usize) -> Self {
        Self { free: Mutex::new(free), given_back: Condvar::new() }
    }

    /// Waits for a turn; it is given back when what is returned is dropped.
    fn take(&self) -> Turn<'_> {
        let mut free = lock(&self.free);
        while *free == 0 {
            free = self.given_back.wait(free).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *free -= 1;
        Turn(self)
    }
}

struct Turn<'a>(&'a Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.0.free) += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Policy;

    fn kept(store: &Store) -> usize {
        lock(&store.modules).entries.len()
    }

    #[test]
    fn of_modules_that_nobody_runs_the_latest_are_kept() {
        let store = Store::new(Host::new(Policy::default()).unwrap());
        let (_, bytes) = SHIPPED[0];
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let fetch = |version: usize| {
            store.compile(Limits::default(), &format!("/v{version}/mine.wasm"), bytes, digest).unwrap()
        };
        let first = fetch(0);
        for version in 1..3 * SPARE {
            fetch(version);
        }
        assert_eq!(kept(&store), 2 + SPARE, "the one that runs, the last one, and those asked for before it");
        assert!(std::ptr::eq(&*first.inner, &*fetch(0).inner), "it was not compiled again");
        drop(first);
        fetch(3 * SPARE);
        assert_eq!(kept(&store), 1 + SPARE, "the first one has made room");
    }

    #[test]
    fn what_fails_is_not_kept_and_others_do_not_wait() {
        let store = Store::new(Host::new(Policy::default()).unwrap());
        for n in 0..3 * SPARE {
            store.compile(Limits::default(), &format!("/{n}.wasm"), b"nonsense", [7; 32]).unwrap_err();
        }
        assert!(kept(&store) <= SPARE);
        let busy = lock(&store.modules).ask(Key {
            origin: "/slow.wasm".into(),
            sha256: [0; 32],
            limits: Limits::default(),
        });
        let _compiling = lock(&busy);
        store.fetch(&Source::Shipped("rr".into())).unwrap();
    }
}
