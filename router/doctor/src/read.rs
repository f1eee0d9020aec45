//! The reader of the host's facts. What cannot be read is left out, or said to be unseen.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use uvs_control::inspect;

use crate::facts::{FirewallDrop, Host};

/// Sets the clock right.
const CLOCK_DAEMONS: [&str; 7] =
    ["chronyd", "ntpd", "ntpsec", "openntpd", "systemd-timesyn", "ptp4l", "phc2sys"];

/// The host as the network namespace and the files of this process show it; `pid` is the director, where it runs here.
pub fn host(network: &inspect::Answer, pid: Option<u32>) -> Host {
    let process = pid.map_or("self".to_owned(), |pid| pid.to_string());
    let proc = Path::new("/proc").join(process);
    let status = fs::read_to_string(proc.join("status")).ok();
    let limits = fs::read_to_string(proc.join("limits")).ok();
    let limit = |name: &str| limits.as_deref().and_then(|text| limit_of(text, name));
    let (drops, firewall_unseen) = match firewall() {
        Ok(drops) => (drops, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let devices = devices(network);
    let links = links(&devices);
    Host {
        tun: fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .err()
            .map(|error| error.to_string()),
        capabilities: status.as_deref().and_then(capabilities_of),
        capabilities_of_director: pid.is_some(),
        sysctls: sysctls(network),
        mtus: links.iter().filter_map(|(name, link)| Some((name.clone(), link.mtu?))).collect(),
        take_all: links.into_iter().filter(|(_, link)| link.takes_all).map(|(name, _)| name).collect(),
        drops,
        firewall_unseen,
        offloads: devices.iter().filter_map(|name| Some((name.clone(), offloads(name)?))).collect(),
        open_files_max: limit("Max open files"),
        open_files: pid.and_then(|_| Some(fs::read_dir(proc.join("fd")).ok()?.count() as u64)),
        address_space_max: limit("Max address space"),
        module_cache: network.module_cache.as_deref().and_then(|folder| unusable(Path::new(folder))),
        clock_daemons: clock_daemons(),
        bridges: Path::new("/proc/sys/net/bridge").exists(),
    }
}

/// The devices that the director's packets pass.
fn devices(network: &inspect::Answer) -> Vec<String> {
    let all = network.interfaces.iter().flat_map(|it| {
        [Some(&it.name), it.bridge.as_ref(), it.link.as_ref()].into_iter().flatten().chain(&it.ports)
    });
    let mut names: Vec<String> = all.filter(|name| !name.contains('/')).cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// What is known of a link.
#[derive(Debug, PartialEq, Eq)]
struct Link {
    mtu: Option<u32>,
    takes_all: bool,
}

/// Of `/sys/class/net` every namespace may have another mount; whom `ip` asks is the namespace itself.
fn links(devices: &[String]) -> BTreeMap<String, Link> {
    let output = said("ip", &["-json", "-details", "link", "show"]);
    let Ok(output) = output else { return BTreeMap::new() };
    let mut all = links_in(&output.stdout);
    all.retain(|name, _| devices.contains(name));
    all
}

/// Of `ip -json -details link show`.
fn links_in(json: &[u8]) -> BTreeMap<String, Link> {
    let links: Vec<Value> = serde_json::from_slice(json).unwrap_or_default();
    let of = |link: &Value| {
        let mtu = link["mtu"].as_u64().and_then(|mtu| mtu.try_into().ok());
        let takes_all = link["linkinfo"]["info_kind"] == "veth" || link["promiscuity"].as_u64() > Some(0);
        Some((link["ifname"].as_str()?.to_owned(), Link { mtu, takes_all }))
    };
    links.iter().filter_map(of).collect()
}

fn sysctls(network: &inspect::Answer) -> BTreeMap<String, String> {
    let mut keys = vec!["net.ipv4.ip_forward".to_owned(), "net.ipv4.conf.all.rp_filter".to_owned()];
    keys.extend(["iptables", "ip6tables", "arptables"].map(|of| format!("net.bridge.bridge-nf-call-{of}")));
    // A device's name may have a dot in it.
    let per_device =
        network.interfaces.iter().filter(|it| it.device == "tun" && !it.name.contains(['.', '/']));
    keys.extend(per_device.map(|it| format!("net.ipv4.conf.{}.rp_filter", it.name)));
    let value = |key: String| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        Some((key, fs::read_to_string(path).ok()?.trim().to_owned()))
    };
    keys.into_iter().filter_map(value).collect()
}

/// `CapEff` of `/proc/PID/status`.
fn capabilities_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// The soft limit of that name in `/proc/PID/limits`; `None`: there is none.
fn limit_of(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Why a folder cannot be written to.
fn unusable(folder: &Path) -> Option<String> {
    let said = |error: std::io::Error| Some(format!("{}: {error}", folder.display()));
    match fs::metadata(folder) {
        // A director makes it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match folder.parent().map(fs::metadata)
        {
            Some(Ok(above)) if above.is_dir() => None,
            Some(Err(error)) => said(error),
            _ => Some(format!("{}: what it should be in is no folder", folder.display())),
        },
        Err(error) => said(error),
        Ok(it) if !it.is_dir() => Some(format!("{} is no folder", folder.display())),
        Ok(_) => nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK)
            .err()
            .and_then(|error| said(error.into())),
    }
}

fn clock_daemons() -> Option<Vec<String>> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        if let Ok(name) = fs::read_to_string(process.path().join("comm"))
            && CLOCK_DAEMONS.contains(&name.trim())
        {
            found.push(name.trim().to_owned());
        }
    }
    Some(found)
}

/// What a program prints; in English, and none of its complaints.
fn said(program: &str, arguments: &[&str]) -> std::io::Result<std::process::Output> {
    Command::new(program).args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).output()
}

/// Offloads that are on and should not be; `None` where nobody can say.
fn offloads(device: &str) -> Option<Vec<String>> {
    let output = said("ethtool", &["-k", device]).ok().filter(|output| output.status.success())?;
    Some(offloads_in(&String::from_utf8_lossy(&output.stdout)))
}

/// Of `ethtool -k`.
fn offloads_in(text: &str) -> Vec<String> {
    let on = |line: &str| {
        let (name, state) = line.trim().split_once(": ")?;
        (name == "large-receive-offload" && state.split(' ').next() == Some("on")).then(|| name.to_owned())
    };
    text.lines().filter_map(on).collect()
}

fn firewall() -> Result<Vec<FirewallDrop>, String> {
    let output = said("nft", &["--json", "list", "ruleset"]).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "there is no nft".to_owned(),
        _ => format!("nft cannot be run: {error}"),
    })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("nft says: {}", text.lines().next().unwrap_or("nothing")));
    }
    drops_in(&output.stdout).ok_or_else(|| "nft prints what is no JSON".to_owned())
}

/// Base chains of `nft --json list ruleset` that may drop: by their policy, or by a rule of theirs or of a chain that
/// they jump to.
fn drops_in(json: &[u8]) -> Option<Vec<FirewallDrop>> {
    type Key = (String, String, String);
    let ruleset: Value = serde_json::from_slice(json).ok()?;
    let text = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let key = |of: &Value, name: &str| -> Key { (text(of, "family"), text(of, "table"), text(of, name)) };
    let mut rules: BTreeMap<Key, (usize, Vec<Key>)> = BTreeMap::new();
    let all = ruleset["nftables"].as_array()?;
    for rule in all.iter().filter_map(|it| it.get("rule")) {
        let (drops, jumps) = rules.entry(key(rule, "chain")).or_default();
        for statement in rule["expr"].as_array().into_iter().flatten() {
            if statement.get("drop").is_some() || statement.get("reject").is_some() {
                *drops += 1;
            }
            for verdict in ["jump", "goto"] {
                if let Some(target) = statement.get(verdict) {
                    jumps.push((text(rule, "family"), text(rule, "table"), text(target, "target")));
                }
            }
        }
    }
    let mut found = Vec::new();
    for chain in all.iter().filter_map(|it| it.get("chain")).filter(|it| it.get("hook").is_some()) {
        let (mut dropping, mut seen, mut next) = (0, Vec::new(), vec![key(chain, "name")]);
        while let Some(at) = next.pop() {
            if let Some((drops, jumps)) = rules.get(&at).filter(|_| !seen.contains(&at)) {
                dropping += drops;
                next.extend(jumps.iter().cloned());
            }
            seen.push(at);
        }
        let mut what = Vec::new();
        if text(chain, "policy") == "drop" {
            what.push("policy drop".to_owned());
        }
        match dropping {
            0 => {}
            1 => what.push("1 rule drops or rejects".to_owned()),
            rules => what.push(format!("{rules} rules drop or reject")),
        }
        if !what.is_empty() {
            let (family, table, name) = key(chain, "name");
            found.push(FirewallDrop {
                chain: format!("{family} {table}, chain {name}"),
                family,
                hook: text(chain, "hook"),
                device: text(chain, "dev"),
                what: what.join(", "),
            });
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drops_in_a_ruleset_is_found_through_jumps() {
        let ruleset = r#"{"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"table": {"family": "bridge", "name": "f"}},
            {"chain": {"family": "bridge", "table": "f", "name": "c", "type": "filter", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "g", "name": "base", "hook": "forward", "policy": "accept"}},
            {"chain": {"family": "inet", "table": "g", "name": "deep"}},
            {"chain": {"family": "inet", "table": "g", "name": "in", "hook": "input", "policy": "accept"}},
            {"chain": {"family": "netdev", "table": "n", "name": "i", "hook": "ingress", "dev": "eth0", "policy": "accept"}},
            {"rule": {"family": "inet", "table": "g", "chain": "base", "expr": [{"jump": {"target": "deep"}}]}},
            {"rule": {"family": "inet", "table": "g", "chain": "deep", "expr": [{"goto": {"target": "deep"}}]}},
            {"rule": {"family": "inet", "table": "g", "chain": "deep", "expr": [{"match": {}}, {"drop": null}]}},
            {"rule": {"family": "inet", "table": "g", "chain": "in", "expr": [{"accept": null}]}},
            {"rule": {"family": "netdev", "table": "n", "chain": "i", "expr": [{"reject": null}]}}
        ]}"#;
        let found = drops_in(ruleset.as_bytes()).unwrap();
        let found: Vec<_> =
            found.iter().map(|it| format!("{}|{}|{}|{}", it.chain, it.hook, it.device, it.what)).collect();
        let want = [
            "bridge f, chain c|forward||policy drop",
            "inet g, chain base|forward||1 rule drops or rejects",
            "netdev n, chain i|ingress|eth0|1 rule drops or rejects",
        ];
        assert_eq!(found, want);
        assert_eq!(drops_in(b"{}"), None);
        assert_eq!(drops_in(b"nonsense"), None);
        assert_eq!(drops_in(br#"{"nftables": []}"#), Some(vec![]));
    }

    #[test]
    fn files_of_proc_are_read() {
        assert_eq!(capabilities_of("Name:\tuvs\nCapEff:\t0000000000001000\n"), Some(0x1000));
        assert_eq!(capabilities_of("Name:\tuvs\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(limit_of(limits, "Max open files"), Some(1024));
        assert_eq!(limit_of(limits, "Max address space"), None);
        let features = "Features for eth0:\ngeneric-receive-offload: on\nlarge-receive-offload: on [fixed]\n";
        assert_eq!(offloads_in(features), ["large-receive-offload"]);
        assert!(offloads_in("large-receive-offload: off [fixed]\n").is_empty());
    }

    #[test]
    fn links_have_an_mtu_and_take_all_frames_or_not() {
        let json = br#"[{"ifname":"lo","mtu":65536},{"ifname":"eth0","mtu":1500,"promiscuity":0},{},
            {"ifname":"eth1","mtu":1500,"promiscuity":1},{"ifname":"v0","linkinfo":{"info_kind":"veth"}}]"#;
        let link = |mtu, takes_all| Link { mtu, takes_all };
        let want = [
            ("eth0", link(Some(1500), false)),
            ("eth1", link(Some(1500), true)),
            ("lo", link(Some(65_536), false)),
            ("v0", link(None, true)),
        ];
        assert_eq!(links_in(json), want.map(|(name, link)| (name.to_owned(), link)).into());
        assert!(links_in(b"").is_empty());
    }

    #[test]
    fn a_folder_that_can_be_made_is_as_good() {
        assert_eq!(unusable(Path::new("/tmp")), None);
        assert_eq!(unusable(Path::new("/tmp/uvs-doctor-not-there")), None);
        assert!(unusable(Path::new("/proc/version")).unwrap().contains("no folder"));
        assert!(unusable(Path::new("/proc/version/cache")).is_some());
        assert!(unusable(Path::new("/nonexistent/deep/cache")).is_some());
    }
}
