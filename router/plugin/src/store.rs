//! Modules that were compiled.

use std::collections::HashMap;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::base::{hex, lock};
use crate::catalogue::Source;
use crate::error::LoadError;
use crate::host::Host;
use crate::load::{Refusal, Step};
use crate::module::Module;
use crate::shipped::SHIPPED;

/// Reads modules and keeps them compiled.
pub(crate) struct Store {
    host: Host,
    /// The latest module of each origin.
    compiled: Mutex<HashMap<String, Module>>,
}

impl Store {
    pub(crate) fn new(host: Host) -> Self {
        Self { host, compiled: Mutex::default() }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Reads, checks and compiles a module.
    pub(crate) fn fetch(&self, source: &Source) -> Result<Module, Refusal> {
        match source {
            Source::Shipped(name) => {
                let bytes = SHIPPED.iter().find(|(shipped, _)| shipped == name).map(|(_, bytes)| *bytes);
                self.compile(&self.host, name, bytes.expect("only names that ship become this source"))
            }
            Source::File { path, pin, limits } => {
                let host = self.host().limited(*limits);
                let origin = path.display().to_string();
                let bytes = host.read(path).map_err(|reason| LoadError { origin: origin.clone(), reason })?;
                let digest: [u8; 32] = Sha256::digest(&bytes).into();
                if let Some(pin) = pin.filter(|pin| *pin != digest) {
                    let (is, wanted) = (hex(&digest), hex(&pin));
                    let reason = format!(
                        "{origin}: its SHA-256 is {is} and has to be {wanted}; restore the file, or pin the new one"
                    );
                    return Err(Refusal::new(Step::Pin, reason));
                }
                self.compile(&host, &origin, &bytes)
            }
        }
    }

    fn compile(&self, host: &Host, origin: &str, bytes: &[u8]) -> Result<Module, Refusal> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        // The lock is held while compiling, so that many services with one module compile it once.
        let mut compiled = lock(&self.compiled);
        if let Some(module) = compiled
            .get(origin)
            .filter(|module| module.digest() == digest && module.host().policy() == host.policy())
        {
            return Ok(module.clone());
        }
        let module = host.compile(origin, bytes)?;
        compiled.insert(origin.to_owned(), module.clone());
        Ok(module)
    }
}
