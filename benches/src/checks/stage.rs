//! The network: a client, the director, and a host that is all real servers.
//!
//! ```text
//!   client                        director                    real servers
//!   eth0 10.0.0.2 --------------- eth0 10.0.0.1    eth1 ------ eth0 192.168.10.11, echoes for the client
//!                                 VIP 10.0.0.100   .1                10.64.0.0/16, each a destination
//! ```

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use uvs_director::spec::{MacAddr, Prefix};
use uvs_lab::Host;
use uvs_lab::director::Director;
use uvs_lab::net::{End, connect};
use uvs_lab::offload::{merge_received, tx_checksum_off};
use uvs_lab::topology::{METRICS, mac};

use super::{FALL, Size};

/// What the client speaks to, which is not checked.
pub(crate) const ECHO: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 7);
/// Where the echo is served.
pub(crate) const ECHO_SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 10, 11), 7);
/// Where destinations are asked.
pub(crate) const PORT: u16 = 80;
const DESTINATIONS: u32 = u32::from_be_bytes([10, 64, 0, 0]);
/// Destinations of one service.
pub(crate) const OF_SERVICE: u32 = 100;

/// The address of a destination.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    // The first address of a subnet is nobody's.
    Ipv4Addr::from(DESTINATIONS + 1 + number)
}

/// The number of the destination with an address.
pub(crate) fn number(address: Ipv4Addr) -> Option<usize> {
    usize::try_from(u32::from(address).checked_sub(DESTINATIONS + 1)?).ok()
}

/// The network, with the director running in it. The director ends before its hosts do.
pub(crate) struct Stage {
    pub(crate) director: Director,
    pub(crate) client: Host,
    pub(crate) servers: Host,
    folder: TempDir,
    size: Size,
    changes: u32,
}

impl Stage {
    /// Builds it, and starts the director without checks.
    ///
    /// # Errors
    /// The kernel refuses something, or the director does not start.
    pub(crate) fn new(uvs: &Path, size: Size) -> Result<Self> {
        let [client, director, servers] =
            [Host::new("client")?, Host::new("director")?, Host::new("servers")?];
        director.plain_bridges()?;
        connect(end(&client, "eth0", mac(1, 2)), end(&director, "eth0", MacAddr([2, 0, 0, 1, 255, 1])))?;
        connect(end(&servers, "eth0", mac(2, 11)), end(&director, "eth1", MacAddr([2, 0, 0, 2, 255, 1])))?;
        client.net().add_address("eth0", subnet(Ipv4Addr::new(10, 0, 0, 2)))?;
        servers.net().add_address("eth0", subnet(*ECHO_SERVER.ip()))?;
        servers.net().add_default_route(Ipv4Addr::new(192, 168, 10, 1).into())?;
        // Half of the connections wait for their end when the machine is busy elsewhere.
        servers.set_sysctl("net.core.somaxconn", "16384")?;
        if size.apart {
            receive_apart((&servers, "eth0"), (&director, "eth1"))?;
        }
        ip(&servers, "route add local 10.64.0.0/16 dev lo\n")?;
        let folder = tempfile::tempdir().context("cannot make a folder for the config")?;
        let file = folder.path().join("uvs.toml");
        fs::write(&file, config(size, false, 0)?).context("cannot write the config")?;
        let director = Director::start_with_file(&director, uvs, &file)?;
        Ok(Self { director, client, servers, folder, size, changes: 0 })
    }

    /// Writes a config, with checks or without, other than the one before.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write_config(&mut self, is_checked: bool) -> Result<()> {
        self.changes += 1;
        let text = config(self.size, is_checked, self.changes)?;
        fs::write(self.folder.path().join("uvs.toml"), text).context("cannot write the config")
    }

    /// Has destinations vanish: what comes for them is dropped without a word.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn kill(&self, numbers: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut commands = String::new();
        for number in numbers {
            // Routes of that table are looked at first.
            writeln!(commands, "route add blackhole {}/32 table local", address(number))?;
        }
        ip(&self.servers, &commands)
    }
}

/// Has the kernel take in what comes to an interface on a thread of its own. Else it does so before whoever sends it
/// gets on, and all that the servers' TCP does with a SYN would be the director's time, as it is not where servers are
/// machines of their own.
fn receive_apart((host, name): (&Host, &str), (peer, other): (&Host, &str)) -> Result<()> {
    // A veth has no NAPI otherwise, and passes by it what its peer would have cut.
    merge_received(host, name)?;
    tx_checksum_off(peer, other)?;
    let script = format!("mount -t sysfs sysfs /sys && echo 1 > /sys/class/net/{name}/threaded");
    let output = host.run(|| Command::new("unshare").args(["--mount", "sh", "-ec", &script]).output())?;
    let output = output.context("cannot start unshare\n  fix: apt-get install util-linux")?;
    ensure!(
        output.status.success(),
        "{name} of the servers cannot receive on a thread of its own: {}\n  fix: Linux 5.12 or later, or without --apart",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn end<'a>(host: &'a Host, name: &'a str, mac: MacAddr) -> End<'a> {
    End { host, name, mac }
}

fn subnet(address: Ipv4Addr) -> Prefix {
    Prefix::new(address.into(), 24).expect("24 is a prefix length")
}

/// Runs commands of `ip` in a host, a line each.
fn ip(host: &Host, commands: &str) -> Result<()> {
    let output = host.run(|| -> Result<_> {
        let mut command = Command::new("ip");
        command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start ip\n  fix: apt-get install iproute2")?;
        child.stdin.take().context("its input is a pipe")?.write_all(commands.as_bytes())?;
        Ok(child.wait_with_output()?)
    })??;
    ensure!(output.status.success(), "ip: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// The name of a service, by its port, and its destinations.
fn config(size: Size, is_checked: bool, change: u32) -> Result<String> {
    let mut config = format!("# {change}\n[metrics]\nlisten = \"{METRICS}\"\n");
    for (name, segment, address, link) in [("c0", 1, "10.0.0.1", "eth0"), ("r0", 2, "192.168.10.1", "eth1")] {
        write!(
            config,
            "\n[[interface]]\nname = \"{name}\"\ndevice = \"tap\"\nmac = \"{}\"\naddresses = [\"{address}/24\"]\n\
             bridge = {{ name = \"br-{name}\", ports = [\"{link}\"] }}\n",
            mac(segment, 1)
        )?;
    }
    write!(config, "\n[[route]]\nto = \"10.64.0.0/16\"\nvia = \"{}\"\n", ECHO_SERVER.ip())?;
    if is_checked {
        // Without jitter, so that the distance of two probes tells how late the second is.
        write!(
            config,
            "\n[[check]]\nname = \"alive\"\ntype = \"tcp\"\ninterval = \"{}ms\"\ntimeout = \"{}ms\"\njitter = 0\n\
             rise = 1\nfall = {FALL}\n",
            size.interval.as_millis(),
            size.timeout.as_millis()
        )?;
    }
    let [echo, server] = [SocketAddr::from(ECHO), SocketAddr::from(ECHO_SERVER)];
    write!(
        config,
        "\n[[service]]\nprotocol = \"udp\"\naddress = \"{echo}\"\nforward = \"nat\"\nscheduler = \"rr\"\n\
         destination = [{{ address = \"{server}\" }}]\n"
    )?;
    let services = size.destinations.div_ceil(OF_SERVICE);
    for first in (0..size.destinations).step_by(OF_SERVICE as usize) {
        let number = first / OF_SERVICE;
        // One service is another than before, and the one of before is as it was.
        let scheduler = if number == change % services { "wrr" } else { "rr" };
        write!(
            config,
            "\n[[service]]\nprotocol = \"tcp\"\naddress = \"{}:{}\"\nforward = \"nat\"\nscheduler = \"{scheduler}\"\n",
            ECHO.ip(),
            1000 + number
        )?;
        if is_checked {
            writeln!(config, "checks = [\"alive\"]\nhealth = {{ damping = 0, start = \"up\" }}")?;
        }
        for number in first..(first + OF_SERVICE).min(size.destinations) {
            writeln!(config, "[[service.destination]]\naddress = \"{}:{PORT}\"", address(number))?;
        }
    }
    Ok(config)
}
