//! The kernel as a router between the director's devices and the host's links.

use std::io;

use super::HostState;
use crate::net::{NetError, read_sysctl};

impl HostState {
    /// Makes the kernel route between these links, and returns whether that took a change.
    pub(super) async fn ensure_forwarding(&mut self, links: &[String], ipv6: bool) -> Result<bool, NetError> {
        for name in links {
            self.net.link(name).await.map_err(|error| error.during(format!("route to and from {name}")))?;
        }
        let changed = self.forward_v4(links)?;
        Ok(ipv6 && self.forward_v6(links)? || changed)
    }

    fn forward_v4(&mut self, links: &[String]) -> Result<bool, NetError> {
        let conf = conf_entries("ipv4")?;
        let mut changed = false;
        if read_sysctl("net/ipv4/ip_forward").is_ok_and(|value| value != "1") {
            // Writing ip_forward also writes these, on the way back as well: their notes lie below its own.
            self.note_sysctl("net/ipv4/conf/all/accept_redirects".to_owned());
            for name in &conf {
                self.note_sysctl(format!("net/ipv4/conf/{name}/forwarding"));
            }
            self.set_sysctl("net/ipv4/ip_forward".to_owned(), "1")?;
            changed = true;
        }
        for name in links {
            changed |= self.set_sysctl(format!("net/ipv4/conf/{name}/forwarding"), "1")? != "1";
        }
        // Either is in force on a link at the larger value of the link and of "all", so "all" has to be 0 for a link to
        // be free of it. The other links get what "all" gave them, and so do links still to come ("default").
        for setting in ["rp_filter", "send_redirects"] {
            let path = |name: &str| format!("net/ipv4/conf/{name}/{setting}");
            let number = |text: &str| text.parse::<u32>().unwrap_or(0);
            let all = self.set_sysctl(path("all"), "0")?;
            changed |= all != "0";
            for name in conf.iter().filter(|name| *name != "all") {
                if links.contains(name) {
                    changed |= self.set_sysctl(path(name), "0")? != "0";
                } else if all == "0" {
                    continue;
                } else if read_sysctl(&path(name)).is_ok_and(|own| number(&own) < number(&all)) {
                    self.set_sysctl(path(name), &all)?;
                }
            }
        }
        Ok(changed)
    }

    fn forward_v6(&mut self, links: &[String]) -> Result<bool, NetError> {
        let mut changed = false;
        let path = |name: &str, setting: &str| format!("net/ipv6/conf/{name}/{setting}");
        if read_sysctl(&path("all", "forwarding")).is_ok_and(|value| value != "1") {
            let conf = conf_entries("ipv6")?;
            let is = |name: &str, setting, value| {
                read_sysctl(&path(name, setting)).is_ok_and(|text: String| text == value)
            };
            for name in conf.iter().filter(|name| *name != "all") {
                // A router takes no router advertisements at 1, and forgets the routes it has learnt.
                if is(name, "forwarding", "0") && is(name, "accept_ra", "1") {
                    self.set_sysctl(path(name, "accept_ra"), "2")?;
                }
            }
            // Writing that of "all" also writes these.
            for name in conf.iter().filter(|name| *name != "all") {
                self.note_sysctl(path(name, "forwarding"));
            }
            self.set_sysctl(path("all", "forwarding"), "1")?;
            changed = true;
        }
        for name in links {
            changed |= self.set_sysctl(path(name, "forwarding"), "1")? != "1";
        }
        Ok(changed)
    }
}

/// The entries of `/proc/sys/net/ipv4/conf` or that of IPv6: links, "all" and "default".
fn conf_entries(family: &str) -> Result<Vec<String>, NetError> {
    let folder = format!("/proc/sys/net/{family}/conf");
    let names = std::fs::read_dir(&folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<_>>()
    });
    names.map_err(|error| NetError::new(format!("read the links' settings in {folder}"), error))
}
