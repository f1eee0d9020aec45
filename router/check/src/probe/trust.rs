//! The certificates that servers are verified with: of the host, or of a file. Files may change, may be wrong, and may
//! lie on a disk that does not answer, so they are read where nobody waits for them but who needs them.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Duration, Instant, timeout};

/// How many files are known at a time.
const KEPT: usize = 256;
/// A file is not larger than this, in bytes: all that browsers trust is 250 kB.
const FILE_MAX: u64 = 4 * 1024 * 1024;
/// It is looked so often, at most, whether a file has changed.
const LOOK: Duration = Duration::from_secs(1);
/// For so long a probe waits for a look at a file that it knows already. Then what is known has to do.
const PATIENCE: Duration = Duration::from_millis(50);

/// Whom to believe.
#[derive(Debug)]
pub(super) struct Trust {
    /// Verifies chains that end in the file.
    pub(super) chains: Arc<WebPkiServerVerifier>,
    /// The certificates of the file that is named, so that a server's own may be one of them.
    pub(super) own: Vec<CertificateDer<'static>>,
}

/// What each file holds, by its path; `None` is the host's own.
#[derive(Debug, Default)]
pub(super) struct Trusts(Mutex<HashMap<Option<PathBuf>, Arc<tokio::sync::Mutex<File>>>>);

/// What a file was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What reading it came to.
type Held = Result<Arc<Trust>, String>;

#[derive(Debug, Default)]
struct File {
    looked: Option<Instant>,
    stamp: Option<Stamp>,
    held: Option<Held>,
    /// It stays here until it ends, whoever gives up waiting: so one look at a time is made, and no more threads wait.
    look: Option<JoinHandle<Look>>,
}

/// What a look at a file found.
#[derive(Debug)]
enum Look {
    Same,
    Found(Option<Stamp>, Held),
}

impl Trusts {
    /// Whom that file, or the host, says to believe.
    ///
    /// # Errors
    ///
    /// Why it says nothing.
    pub(super) async fn get(&self, path: Option<&PathBuf>, provider: &Arc<CryptoProvider>) -> Held {
        let file = self.file(path);
        let mut file = file.lock().await;
        if let (Some(looked), Some(held)) = (file.looked, &file.held)
            && looked.elapsed() < LOOK
        {
            return held.clone();
        }
        if file.look.is_none() {
            let (path, stamp, provider) = (path.cloned(), file.stamp.clone(), Arc::clone(provider));
            file.look = Some(spawn_blocking(move || look(path.as_deref(), stamp.as_ref(), &provider)));
        }
        let known = file.held.clone();
        let found = match (&mut file.look, &known) {
            (Some(handle), Some(known)) => match timeout(PATIENCE, handle).await {
                Ok(found) => found,
                Err(_) => return known.clone(),
            },
            (Some(handle), None) => handle.await,
            (None, _) => Ok(Look::Same),
        };
        file.look = None;
        file.looked = Some(Instant::now());
        match found {
            Ok(Look::Same) => {}
            Ok(Look::Found(stamp, held)) => (file.stamp, file.held) = (stamp, Some(held)),
            Err(error) => (file.stamp, file.held) = (None, Some(Err(error.to_string()))),
        }
        file.held.clone().unwrap_or_else(|| Err("the certificates were not read".to_owned()))
    }

    fn file(&self, path: Option<&PathBuf>) -> Arc<tokio::sync::Mutex<File>> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = path.cloned();
        if !files.contains_key(&path) && files.len() >= KEPT {
            files.clear();
        }
        Arc::clone(files.entry(path).or_default())
    }
}

fn look(path: Option<&Path>, before: Option<&Stamp>, provider: &Arc<CryptoProvider>) -> Look {
    let Some(file) = path.map(Path::to_owned).or_else(|| openssl_probe::probe().cert_file) else {
        let why = "this host has no certificates to verify servers with: install ca-certificates, or give ca";
        return Look::Found(None, Err(why.to_owned()));
    };
    match stamp(&file) {
        Ok(now) if before == Some(&now) => Look::Same,
        Ok(now) => Look::Found(Some(now), read(&file, path.is_some(), provider)),
        Err(error) => Look::Found(None, Err(format!("{}: {error}", file.display()))),
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    let about = std::fs::metadata(path)?;
    // To open a FIFO for reading waits for somebody who writes.
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(Stamp {
        device: about.dev(),
        inode: about.ino(),
        size: about.size(),
        modified: (about.mtime(), about.mtime_nsec()),
        changed: (about.ctime(), about.ctime_nsec()),
    })
}

/// Reads certificates in PEM. In a file that somebody named each has to be right; of the host's, one that is odd is
/// left out.
fn read(path: &Path, named: bool, provider: &Arc<CryptoProvider>) -> Held {
    let of_file = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let mut text = Vec::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text));
    opened.map_err(|error| of_file(&error))?;
    if text.len() as u64 > FILE_MAX {
        return Err(of_file(&"it is larger than 4 MiB"));
    }
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    for (index, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
        let added = certificate.map_err(|error| error.to_string()).and_then(|certificate| {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
            Ok(certificate)
        });
        match added {
            Ok(certificate) if named => own.push(certificate),
            Err(error) if named => return Err(of_file(&format!("certificate {}: {error}", index + 1))),
            Ok(_) | Err(_) => {}
        }
    }
    if roots.is_empty() {
        return Err(of_file(&"it has no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
    }
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
    Ok(Arc::new(Trust { chains: chains.map_err(|error| of_file(&error))?, own }))
}
