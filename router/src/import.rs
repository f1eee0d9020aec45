//! `uvs import`: a keepalived.conf, or rules of ipvsadm, as a configuration of uvs.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use uvs_config::{Config, Problems, Severity};
use uvs_director::spec::Prefix;
use uvs_import::{ArmWish, Attached, Done, Fault, Files, Imported, Wish, alternatives, together};

use crate::check::{STATUS_WRONG, count};

/// Exit status where something is not as it was written, different here, or left out.
const STATUS_REMARKS: u8 = 3;
/// Bytes of rules.
const RULES_MAX: usize = 16 << 20;

/// `uvs import`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Source {
    /// From a keepalived.conf and what it includes
    #[command(after_help = AFTER)]
    Keepalived {
        /// The keepalived.conf
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The name that lines with @NAME in front are for, as of `keepalived --config-id` [default: the name of this
        /// host up to its first dot]
        #[arg(long, value_name = "NAME")]
        id: Option<String>,
        /// Where the result goes, and what is not in the file
        #[command(flatten)]
        common: Common,
    },
    /// From what `ipvsadm -S` prints, or a script of ipvsadm's commands
    #[command(after_help = AFTER)]
    Ipvsadm {
        /// The rules; `-` is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the result goes, and what is not in the file
        #[command(flatten)]
        common: Common,
    },
}

const AFTER: &str = "\
Examples:
  uvs import keepalived /etc/keepalived/keepalived.conf --output edge.toml
  ipvsadm -S -n | uvs import ipvsadm - --address 192.0.2.1/24 --gateway 192.0.2.254 --output edge.toml

What comes out is what keepalived, or the kernel, runs. On standard error stands, with file and line, where that is not
what was written there, what is different here, and what was left out.

Exit status: 0 all came over, 3 there is something to read on standard error, 2 the file cannot be read.";

/// What both have.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Common {
    /// Write the configuration there [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// An address of the director's own with the length of its subnet; may be given several times [default: what
    /// keepalived.conf and the virtual addresses tell]
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub address: Vec<Prefix>,
    /// The router to all other networks, one for each IP version
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<IpAddr>,
    /// The network card to attach to (`attach = "tcx"`); of a director between two networks once for each, that of the
    /// clients first, or each with a subnet behind it
    #[arg(long, value_name = "NAME[=SUBNET]", value_parser = arm)]
    pub link: Vec<(String, Option<Prefix>)>,
    /// The bridge of this host that the director's interface is plugged into; likewise
    #[arg(long, value_name = "NAME[=SUBNET]", value_parser = arm, conflicts_with = "link")]
    pub bridge: Vec<(String, Option<Prefix>)>,
    /// Print a remark for each line that it is about [default: what is the same of many lines is said once, with the
    /// numbers of some of them]
    #[arg(long)]
    pub all_remarks: bool,
}

/// Reads, and writes what came out.
///
/// # Errors
/// The result cannot be written.
pub fn run(source: &Source) -> anyhow::Result<ExitCode> {
    let (file, common, imported) = match source {
        Source::Keepalived { file, id, common } => {
            let id = id.clone().unwrap_or_else(host_name);
            (file, common, uvs_import::keepalived(file, &id, &Disk, &wish(common)))
        }
        Source::Ipvsadm { file, common } => (file, common, rules(file, &wish(common))),
    };
    let imported = match imported {
        Ok(imported) => imported,
        Err(error) => {
            eprintln!("{}: cannot be read: {error}", file.display());
            return Ok(ExitCode::from(STATUS_WRONG));
        }
    };
    let name = common.output.clone().unwrap_or_else(|| PathBuf::from("imported.toml"));
    let done = match imported.judged(&mut |toml| faults(toml, &name)) {
        Ok(done) => done,
        Err(faults) => {
            for fault in faults {
                eprintln!("{}: {}", file.display(), fault.what);
            }
            eprintln!(
                "give addresses with --address, gateways in their subnets with --gateway, and a card with --link or a \
                 bridge with --bridge"
            );
            return Ok(ExitCode::from(STATUS_WRONG));
        }
    };
    write(&done, common.output.as_deref())?;
    let remarks = match common.all_remarks {
        true => done.remarks.iter().map(ToString::to_string).collect(),
        false => together(&done.remarks),
    };
    for remark in remarks {
        eprintln!("{remark}");
    }
    let Done { services, destinations, checks, .. } = done;
    eprintln!(
        "{}: {}, {}, {}; {}",
        file.display(),
        count(services, "service"),
        count(destinations, "destination"),
        count(checks, "check"),
        count(done.remarks.len(), "remark")
    );
    Ok(if done.remarks.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(STATUS_REMARKS) })
}

/// A card or a bridge, and the network behind it.
fn arm(text: &str) -> Result<(String, Option<Prefix>), String> {
    let (name, subnet) = match text.split_once('=') {
        None => (text, None),
        Some((name, subnet)) => {
            let parsed = subnet.parse().map_err(|_| {
                format!("{subnet:?} is no subnet; write NAME=ADDRESS/LENGTH, as in eth1=10.20.0.0/24")
            })?;
            (name, Some(parsed))
        }
    };
    if name.is_empty() {
        return Err("there is no name before the =".to_owned());
    }
    Ok((name.to_owned(), subnet))
}

fn wish(common: &Common) -> Wish {
    let arm = |attached: fn(String) -> Attached| {
        move |(name, subnet): &(String, Option<Prefix>)| ArmWish {
            attached: attached(name.clone()),
            subnet: *subnet,
        }
    };
    let links = common.link.iter().map(arm(Attached::Link));
    Wish {
        addresses: common.address.clone(),
        gateways: common.gateway.clone(),
        arms: links.chain(common.bridge.iter().map(arm(Attached::Bridge))).collect(),
    }
}

/// The name that keepalived takes if it is given none.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().split('.').next().unwrap_or_default().to_owned()
}

fn rules(file: &Path, wish: &Wish) -> io::Result<Imported> {
    let bytes = if file == Path::new("-") {
        bounded(io::stdin().lock(), RULES_MAX)?
    } else {
        Disk.read(file, RULES_MAX)?
    };
    let text = String::from_utf8_lossy(&bytes);
    let text = uvs_adm::with_addresses_in_rules(&text, &mut look_up);
    Ok(uvs_import::ipvsadm(&text, &file.to_string_lossy(), wish))
}

fn look_up(name: &str) -> Vec<IpAddr> {
    (name, 0).to_socket_addrs().map(|found| found.map(|addr| addr.ip()).collect()).unwrap_or_default()
}

/// What `uvs check` would refuse.
fn faults(toml: &str, name: &Path) -> Vec<Fault> {
    let of = |problems: &Problems| {
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
        errors.map(|problem| Fault { line: problem.line.unwrap_or(0), what: problem.what.clone() }).collect()
    };
    Config::parse(toml, name).err().as_ref().map_or_else(Vec::new, of)
}

fn write(done: &Done, output: Option<&Path>) -> anyhow::Result<()> {
    match output {
        Some(path) => {
            std::fs::write(path, &done.toml).with_context(|| format!("{} cannot be written", path.display()))
        }
        None => {
            let written =
                io::stdout().lock().write_all(done.toml.as_bytes()).and_then(|()| io::stdout().flush());
            match written {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(error).context("standard output cannot be written")
                }
                _ => Ok(()),
            }
        }
    }
}

/// The files of this machine.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path, max: usize) -> io::Result<Vec<u8>> {
        // What is no regular file might never end, or never begin.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        bounded(std::fs::File::open(path)?, max)
    }

    fn matching(&self, pattern: &str) -> Vec<PathBuf> {
        let one = |pattern: String| glob::glob(&pattern).into_iter().flatten().flatten();
        alternatives(pattern).into_iter().flat_map(one).filter(|path| is_included(path)).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// Whether keepalived would include it: a regular file that nobody may execute.
fn is_included(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 == 0)
}

fn bounded(from: impl io::Read, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}
