//! How to take back what was done to the host, one step at a time.
//!
//! A step is taken back only where the host still is as we made it: what somebody else has changed since is theirs.

use std::fmt;
use std::marker::PhantomData;

use nix::errno::Errno;
use rtnetlink::packet_core::{Emitable, Parseable};
use rtnetlink::packet_route::{route, rule};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uvs_director::spec::{MacAddr, Prefix};

use crate::net::{Cause, Net, NetError, read_sysctl, write_sysctl};

/// How to take one step back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Undo {
    /// A bridge that was made here; without an index it is not known yet.
    DeleteBridge {
        name: String,
        index: Option<u32>,
    },
    /// A link that was plugged into `bridge`.
    Master {
        name: String,
        index: u32,
        bridge: String,
        before: Option<u32>,
    },
    Down {
        name: String,
        index: u32,
    },
    Mac {
        name: String,
        index: u32,
        #[serde(with = "text")]
        before: MacAddr,
    },
    Address {
        name: String,
        index: u32,
        #[serde(with = "text")]
        address: Prefix,
    },
    Route(Wire<route::RouteMessage>),
    Rule(Wire<rule::RuleMessage>),
    /// A rule that we took away.
    LostRule(Wire<rule::RuleMessage>),
    Sysctl {
        path: String,
        before: String,
        /// What we wrote; `None`: it changed as a consequence of another setting, and changes again with that.
        set: Option<String>,
    },
}

impl Undo {
    /// Whether both are about the same thing, so that the earlier one says how it was before us.
    pub(super) fn is_about_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::DeleteBridge { name: a, .. }, Self::DeleteBridge { name: b, .. })
            | (Self::Down { name: a, .. }, Self::Down { name: b, .. })
            | (Self::Mac { name: a, .. }, Self::Mac { name: b, .. }) => a == b,
            (Self::Master { name: a, bridge: to_a, .. }, Self::Master { name: b, bridge: to_b, .. }) => {
                (a, to_a) == (b, to_b)
            }
            (Self::Address { name: a, address: of_a, .. }, Self::Address { name: b, address: of_b, .. }) => {
                (a, of_a) == (b, of_b)
            }
            (Self::Sysctl { path: a, .. }, Self::Sysctl { path: b, .. }) => a == b,
            (a, b) => a == b,
        }
    }

    /// The index of the link that it is about.
    pub(super) fn link(&self) -> Option<u32> {
        match self {
            Self::DeleteBridge { index, .. } => *index,
            Self::Master { index, .. }
            | Self::Down { index, .. }
            | Self::Mac { index, .. }
            | Self::Address { index, .. } => Some(*index),
            Self::Route(_) | Self::Rule(_) | Self::LostRule(_) | Self::Sysctl { .. } => None,
        }
    }

    /// Whether it goes with the devices of the director that made it, or stands for nothing without them.
    pub(super) fn is_worthless_without_devices(&self) -> bool {
        matches!(self, Self::Address { .. } | Self::Route(_) | Self::Rule(_) | Self::LostRule(_))
    }

    /// Takes the step back, unless somebody has changed the host there.
    ///
    /// # Errors
    /// What the kernel refuses. [`NetError::is_gone`]: there is nothing to take back any more.
    pub(super) async fn take_back(self, net: &Net) -> Result<(), NetError> {
        match self {
            Self::DeleteBridge { name, index } => match net.link(&name).await {
                // Somebody else's by now.
                Ok(link) if !link.is_bridge || index.is_some_and(|index| link.index != index) => Ok(()),
                Ok(_) => net.delete_link(&name).await,
                Err(error) => Err(error),
            },
            Self::Master { name, index, bridge, before } => {
                let step = format!("put {name} back to where it was plugged in");
                let link = net.link(&name).await?;
                let ours = match net.link(&bridge).await {
                    Ok(bridge) => Some(bridge.index),
                    Err(error) if matches!(error.cause(), Cause::NoLink(_)) => None,
                    Err(error) => return Err(error),
                };
                if link.index != index || link.master.is_some() && link.master != ours {
                    return Ok(());
                }
                // That bridge may have gone, and ours must not keep the port.
                let there = net.links().await?.iter().any(|link| Some(link.index) == before);
                let master = before.filter(|_| there);
                if master == link.master {
                    return Ok(());
                }
                net.change_index(index, step, |link| link.controller(master.unwrap_or(0))).await
            }
            Self::Down { name, index } => {
                net.change_index(index, format!("take {name} down again"), |link| link.down()).await
            }
            Self::Mac { name, index, before } => match net.link(&name).await {
                Ok(link) if link.index == index && link.mac != Some(before) => {
                    net.set_mac(&name, before).await
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
            Self::Address { index, address, .. } => net.remove_address(index, address).await,
            Self::Route(message) => net.remove_route(message.0, "remove a route".to_owned()).await,
            Self::Rule(message) => net.remove_rule(message.0).await,
            Self::LostRule(message) => match net.add_rule(message.0, "put a rule back").await {
                Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
                added => added,
            },
            Self::Sysctl { path, before, set } => {
                let failed = |error| NetError::new(format!("set {path} back to {before}"), error);
                if set.is_some() && read_sysctl(&path).map_err(failed)? != set.unwrap_or_default() {
                    return Ok(());
                }
                write_sysctl(&path, &before).map(drop).map_err(failed)
            }
        }
    }
}

/// A netlink message, which is written down as it goes to the kernel, in hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wire<M>(pub(super) M);

impl<M: fmt::Debug> fmt::Debug for Wire<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<M: Emitable> Serialize for Wire<M> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = vec![0; self.0.buffer_len()];
        self.0.emit(&mut bytes);
        serializer.collect_str(&Hex(&bytes))
    }
}

impl<'de, M: Parseable<[u8]>> Deserialize<'de> for Wire<M> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<M>(PhantomData<M>);
        impl<M: Parseable<[u8]>> serde::de::Visitor<'_> for Visitor<M> {
            type Value = Wire<M>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a netlink message in hexadecimal digits")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                let bytes = bytes_of(text).ok_or_else(|| E::custom("no hexadecimal digits"))?;
                M::parse(&bytes).map(Wire).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor(PhantomData))
    }
}

struct Hex<'b>(&'b [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        hex.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Values as they are written for people.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use uvs_director::spec::Family;

    use super::*;
    use crate::net::{RuleMatch, route_message, rule_message};

    #[test]
    fn a_step_is_the_same_after_it_was_written_down() {
        let to: Prefix = "192.0.2.0/24".parse().unwrap();
        let what = RuleMatch { link: Some("eth1"), from: Some(to.addr()), to: None };
        let steps = [
            Undo::DeleteBridge { name: "br0".into(), index: None },
            Undo::Master { name: "eth0".into(), index: 2, bridge: "br0".into(), before: Some(7) },
            Undo::Down { name: "eth0".into(), index: 2 },
            Undo::Mac { name: "br0".into(), index: 3, before: MacAddr([2, 0, 0, 0, 0, 1]) },
            Undo::Address { name: "uvs0".into(), index: 4, address: "2001:db8::1/64".parse().unwrap() },
            Undo::Route(Wire(route_message(to, None, Some(4), 20_000))),
            Undo::Rule(Wire(rule_message(Family::V4, what, 20_000, 32_765))),
            Undo::LostRule(Wire(rule_message(Family::V6, RuleMatch::default(), 255, 0))),
            Undo::Sysctl { path: "net/ipv4/ip_forward".into(), before: "0".into(), set: Some("1".into()) },
        ];
        for step in steps {
            let line = serde_json::to_string(&step).unwrap();
            assert!(!line.contains('\n'), "{line}");
            assert_eq!(serde_json::from_str::<Undo>(&line).unwrap(), step, "{line}");
        }
        for bad in [r#"{"Rule":"0"}"#, r#"{"Rule":"zz"}"#, r#"{"Rule":"00"}"#, r#"{"Route":"é"}"#] {
            serde_json::from_str::<Undo>(bad).expect_err(bad);
        }
    }
}
