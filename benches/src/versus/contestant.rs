//! Who is measured: uvs in one of its modes, or a peer, each in a world of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{SysconfVar, sysconf};
use uvs_director::spec::Prefix;
use uvs_lab::director::{Decapsulator, Director};
use uvs_lab::topology::{METRICS, mac};
use uvs_lab::{Host, Process};

use super::args::{Attach, Device, Load, Method, Mode, Peer};
use super::conntrack;
use super::world::{DIP, GATEWAY, RIPS, TCP_PORTS, UDP_PORTS, VIP, WayBack, World};

/// How long a program may take to be ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Lines that the config of uvs gets beside its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keys<'a> {
    /// Of every interface.
    pub(crate) interface: &'a [String],
    /// Of `[workers]`.
    pub(crate) workers: &'a [String],
}

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// uvs.
    Uvs(Mode),
    /// Somebody else.
    Peer(Peer),
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uvs(mode) => mode.fmt(f),
            Self::Peer(peer) => peer.fmt(f),
        }
    }
}

/// A contestant that runs.
#[derive(Debug)]
pub(crate) struct Contestant {
    /// Who it is.
    pub(crate) name: Name,
    /// Where it runs. The programs below end before their hosts do.
    pub(crate) world: World,
    engine: Engine,
}

#[derive(Debug)]
enum Engine {
    Uvs { director: Director, _decapsulator: Option<Process> },
    Haproxy(Process),
    Kernel,
    Nft,
}

impl Contestant {
    /// Starts uvs.
    ///
    /// # Errors
    /// The network cannot be built, or uvs does not start; the message holds what it wrote.
    pub(crate) fn uvs(mode: Mode, program: &Path, keys: &Keys<'_>) -> Result<Self> {
        let world = World::new(match mode.method {
            Method::Nat => WayBack::Director,
            Method::Dr | Method::Tun => WayBack::Direct,
        })?;
        if mode.device == Device::Tun {
            world.let_kernel_forward()?;
        }
        let decapsulator = match mode.method {
            Method::Tun => Some(decapsulate(&world.servers, program)?),
            Method::Nat | Method::Dr => None,
        };
        let director = Director::start(&world.director, program, &config(mode, keys)?)?;
        let engine = Engine::Uvs { director, _decapsulator: decapsulator };
        Ok(Self { name: Name::Uvs(mode), world, engine })
    }

    /// Starts a peer.
    ///
    /// # Errors
    /// The network cannot be built, or the peer does not start.
    pub(crate) fn peer(peer: Peer) -> Result<Self> {
        let mut world = World::new(WayBack::Director)?;
        world.let_kernel_forward()?;
        let vip = Prefix::host(VIP.into());
        let engine = match peer {
            Peer::Route => {
                let [first, ..] = RIPS;
                world.target = first;
                Engine::Kernel
            }
            Peer::Nft => {
                // For ARP; what comes in is translated before it is looked at.
                world.director.net().add_address("eth0", vip)?;
                load_map(&world.director)?;
                Engine::Nft
            }
            Peer::Haproxy => {
                world.director.net().add_address("eth0", vip)?;
                world.director.set_sysctl("net.ipv4.ip_forward", "0")?;
                Engine::Haproxy(start_haproxy(&world.director)?)
            }
        };
        Ok(Self { name: Name::Peer(peer), world, engine })
    }

    /// Whether it can carry such a load.
    pub(crate) fn carries(&self, load: Load) -> bool {
        !(matches!(self.engine, Engine::Haproxy(_)) && load.is_udp())
    }

    /// Whether the client's packets are spread over all real servers, which then see other addresses than the VIP.
    pub(crate) fn spreads_addresses(&self) -> bool {
        match self.name {
            Name::Uvs(mode) => mode.method == Method::Nat,
            Name::Peer(peer) => peer != Peer::Route,
        }
    }

    /// Whether both ends of a stream may end it at the same time. HAProxy 2.6 resets about one of a hundred such
    /// streams, or cuts them off, when the machine is busy.
    pub(crate) fn lets_both_ends_end(&self) -> bool {
        !matches!(self.engine, Engine::Haproxy(_))
    }

    /// Whether 20 bytes less fit into a packet.
    pub(crate) fn tunnels(&self) -> bool {
        matches!(self.name, Name::Uvs(mode) if mode.method == Method::Tun)
    }

    /// Makes it forget what the last measurement left, where that would slow the next one down.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        match &mut self.engine {
            Engine::Nft => self.world.director.run(conntrack::flush)?,
            Engine::Uvs { director, .. } => director.process().check(),
            Engine::Haproxy(process) => process.check(),
            Engine::Kernel => Ok(()),
        }
    }

    /// The program's process; `None`: it is a part of the kernel.
    pub(crate) fn process_id(&self) -> Option<u32> {
        match &self.engine {
            Engine::Uvs { director, .. } => Some(director.id()),
            Engine::Haproxy(process) => Some(process.id()),
            Engine::Kernel | Engine::Nft => None,
        }
    }

    /// How many frames found a queue full since it was started: of a device of the director's, or of a socket at the
    /// ends.
    ///
    /// # Errors
    /// The kernel's figures cannot be read.
    pub(crate) fn dropped_by_queues(&self) -> Result<u64> {
        let devices = self.world.director.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
        // Behind the name 8 figures of what came in, the 4th of them drops, and 8 of what went out.
        let drops = devices.lines().filter_map(|line| line.split_once(':')).map(|(_, figures)| {
            let figures: Vec<u64> = figures.split_whitespace().filter_map(|text| text.parse().ok()).collect();
            figures.get(3).copied().unwrap_or_default() + figures.get(11).copied().unwrap_or_default()
        });
        let mut dropped = drops.sum::<u64>();
        for host in [&self.world.client, &self.world.servers] {
            let text = host.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))??;
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
            let (names, figures) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            let full = names.split(' ').zip(figures.split(' ')).find(|(name, _)| *name == "RcvbufErrors");
            dropped += full.and_then(|(_, figure)| figure.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(dropped)
    }

    /// CPU time that the program itself has taken, in seconds; `None`: it is a part of the kernel.
    pub(crate) fn own_cpu(&self) -> Option<f64> {
        let id = self.process_id()?;
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // Fields after the name, which is in parentheses and may hold anything: 14 and 15 of proc_pid_stat(5).
        let (_, fields) = stat.rsplit_once(')')?;
        let ticks: u64 =
            fields.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum();
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
        Some(ticks as f64 / per_second as f64)
    }
}

/// The config for `uvs run`.
fn config(mode: Mode, more: &Keys<'_>) -> Result<String> {
    let mut config = format!("[metrics]\nlisten = \"{METRICS}\"\n");
    let mut keys = String::new();
    for key in more.interface {
        writeln!(keys, "{key}")?;
    }
    if !more.workers.is_empty() {
        write!(config, "\n[workers]\n{}\n", more.workers.join("\n"))?;
    }
    match mode.device {
        Device::Tap => {
            for (name, segment, address, link) in [("c0", 1, DIP, "eth0"), ("r0", 2, GATEWAY, "eth1")] {
                let attach = match mode.attach {
                    Attach::Bridge => {
                        format!("bridge = {{ name = \"br-{name}\", ports = [\"{link}\"] }}")
                    }
                    Attach::Tcx => format!("attach = \"tcx\"\nlink = \"{link}\"\naccelerate = \"off\""),
                    Attach::Cache => format!("attach = \"tcx\"\nlink = \"{link}\"\naccelerate = \"on\""),
                };
                write!(
                    config,
                    "\n[[interface]]\nname = \"{name}\"\ndevice = \"tap\"\nmac = \"{}\"\n\
                     addresses = [\"{address}/24\"]\n{attach}\n{keys}",
                    mac(segment, 1)
                )?;
            }
        }
        Device::Tun => {
            let replies = if mode.method == Method::Nat { "replies_from = [\"eth1\"]\n" } else { "" };
            write!(
                config,
                "\n[[interface]]\nname = \"uvs0\"\ndevice = \"tun\"\naddresses = [\"10.255.0.2/30\", \"{VIP}/32\"]\n\
                 {keys}\n[interface.host]\naddresses = [\"10.255.0.1/30\"]\nroutes = [\"{VIP}/32\"]\n{replies}\
                 forwarding = true\n\n[[route]]\nto = \"0.0.0.0/0\"\nvia = \"10.255.0.1\"\n"
            )?;
        }
    }
    for (protocol, ports) in [("tcp", &TCP_PORTS[..]), ("udp", &UDP_PORTS[..])] {
        for port in ports {
            write!(
                config,
                "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"{VIP}:{port}\"\nscheduler = \"rr\"\n\
                 forward = \"{}\"\n",
                mode.method
            )?;
            for rip in RIPS {
                write!(config, "[[service.destination]]\naddress = \"{rip}:{port}\"\n")?;
            }
        }
    }
    Ok(config)
}

/// Why this uvs has no such attach; `None`: it has. What `uvs check` says about a small config decides.
///
/// # Errors
/// `uvs check` cannot be started.
pub(crate) fn lacks_attach(attach: Attach, program: &Path) -> Result<Option<String>> {
    if attach == Attach::Bridge {
        return Ok(None);
    }
    let mode = Mode { method: Method::Nat, device: Device::Tap, attach };
    let mut check = Command::new(program);
    check.args(["check", "/dev/stdin"]).env("NO_COLOR", "1");
    let (good, text) = feed(check, &config(mode, &Keys::default())?)?;
    Ok((!good).then(|| text.lines().next().unwrap_or("uvs check refuses it").to_owned()))
}

/// Runs a program with `input`. Whether it succeeded, and what it wrote.
fn feed(mut command: Command, input: &str) -> Result<(bool, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading it says why on its own.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("cannot wait for {program}"))?;
    let text = [output.stderr, output.stdout].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// Starts `uvs realserver` for all addresses of the real servers.
fn decapsulate(servers: &Host, program: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command
        .env("NO_COLOR", "1")
        .args(["realserver", "--vip", &VIP.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = servers.exec(command)?;
    process.wait_for_line(Decapsulator::READY, START_TIMEOUT)?;
    Ok(process)
}

/// Has the kernel spread new connections over the real servers in turn.
fn load_map(director: &Host) -> Result<()> {
    let [first, second, third] = RIPS;
    let rules = format!(
        "table ip versus {{\n  chain prerouting {{\n    type nat hook prerouting priority dstnat;\n    \
         ip daddr {VIP} meta l4proto {{ tcp, udp }} \
         dnat to numgen inc mod 3 map {{ 0 : {first}, 1 : {second}, 2 : {third} }}\n  }}\n}}\n"
    );
    let nft = find(Peer::Nft)?;
    let (loaded, text) = director.run(|| {
        let mut command = Command::new(nft);
        command.args(["-f", "-"]);
        feed(command, &rules)
    })??;
    ensure!(
        loaded,
        "nft does not take the map: {}\n  fix: a kernel with nf_tables and nf_nat, or --peers without nft",
        text.trim()
    );
    Ok(())
}

fn start_haproxy(director: &Host) -> Result<Process> {
    let mut config = "global\n  nbthread 2\n  maxconn 4000\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
                      timeout client 60s\n  timeout server 60s\n"
        .to_owned();
    for port in TCP_PORTS {
        write!(config, "listen port{port}\n  bind {VIP}:{port}\n  balance roundrobin\n")?;
        for (number, rip) in (1..).zip(RIPS) {
            writeln!(config, "  server rs{number} {rip}:{port}")?;
        }
    }
    let mut command = Command::new(find(Peer::Haproxy)?);
    // In the foreground; from a pipe, so that no file is left.
    command
        .args(["-db", "-f", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = director.exec(command)?;
    process.feed(&config)?;
    let deadline = std::time::Instant::now() + START_TIMEOUT;
    let first = (VIP, TCP_PORTS[0]);
    while director.run(|| std::net::TcpStream::connect(first))?.is_err() {
        process.check()?;
        ensure!(std::time::Instant::now() < deadline, "haproxy is not ready after {START_TIMEOUT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}

/// The program that a peer needs; nothing for one that needs none.
///
/// # Errors
/// It is not installed; the message names the package.
pub(crate) fn find(peer: Peer) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where root's programs are, whatever the path.
    find_in(peer, std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into)))
}

fn find_in(peer: Peer, mut folders: impl Iterator<Item = PathBuf>) -> Result<PathBuf> {
    let (program, package) = match peer {
        Peer::Nft => ("nft", "nftables"),
        Peer::Haproxy => ("haproxy", "haproxy"),
        Peer::Route => return Ok(PathBuf::new()),
    };
    folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file())).with_context(|| {
        format!(
            "there is no {program} here, which the peer {peer} needs\n  \
             fix: apt-get install {package}, or leave {peer} out of --peers"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_is_not_installed_is_named_with_its_package() {
        for (peer, package) in [(Peer::Nft, "nftables"), (Peer::Haproxy, "haproxy")] {
            let error = find_in(peer, ["/nowhere".into()].into_iter()).unwrap_err().to_string();
            assert!(error.contains(&format!("apt-get install {package}")), "{error}");
        }
        assert!(find_in(Peer::Route, std::iter::empty()).is_ok(), "the kernel is always there");
    }
}
