//! `compat`, `transit` and `[options]` as values by their keys: for what is written and what is shown.

use core::fmt;

use uvs_director::spec::{Options, Transit};

/// The value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// A number.
    Number(u64),
    /// True or false.
    Switch(bool),
    /// One of several words.
    Word(&'static str),
}

impl fmt::Display for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Switch(on) => on.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
}

/// Each option by its key in the file, `compat` and `transit` first: these stand outside of `[options]`.
pub fn option_values(options: &Options) -> Vec<(&'static str, OptionValue)> {
    use OptionValue::{Number, Switch, Word};
    // All by name, so that a new one is not forgotten.
    let Options {
        conn_reuse_mode,
        expire_nodest_conn,
        expire_quiescent_template,
        sloppy_tcp,
        sloppy_sctp,
        secure_tcp,
        drop_entry,
        drop_packet,
        am_droprate,
        nat_icmp_send,
        schedule_icmp,
        cache_bypass,
        ignore_tunneled,
        ftp,
        transit,
        pmtu_disc,
        compat_ipvs,
    } = *options;
    let transit = match transit {
        Transit::Servers => "servers",
        Transit::Any => "any",
        Transit::None => "none",
    };
    vec![
        ("compat", Word(if compat_ipvs { "ipvs" } else { "none" })),
        ("transit", Word(transit)),
        ("conn_reuse_mode", Number(conn_reuse_mode.into())),
        ("expire_nodest_conn", Switch(expire_nodest_conn)),
        ("expire_quiescent_template", Switch(expire_quiescent_template)),
        ("sloppy_tcp", Switch(sloppy_tcp)),
        ("sloppy_sctp", Switch(sloppy_sctp)),
        ("secure_tcp", Number(secure_tcp.into())),
        ("drop_entry", Number(drop_entry.into())),
        ("drop_packet", Number(drop_packet.into())),
        ("am_droprate", Number(am_droprate.into())),
        ("nat_icmp_send", Switch(nat_icmp_send)),
        ("schedule_icmp", Switch(schedule_icmp)),
        ("cache_bypass", Switch(cache_bypass)),
        ("ignore_tunneled", Switch(ignore_tunneled)),
        ("ftp", Switch(ftp)),
        ("pmtu_disc", Switch(pmtu_disc)),
    ]
}
