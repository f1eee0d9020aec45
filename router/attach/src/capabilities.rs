//! Which rights this thread has, for advice.

use std::fs;

/// Bit numbers of `linux/capability.h`.
const NET_ADMIN: u32 = 12;
const SYS_ADMIN: u32 = 21;
const BPF: u32 = 39;

/// The capabilities for programs in the kernel that this thread lacks; none also when that cannot be found out.
pub(crate) fn missing() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    effective(&status).map_or_else(Vec::new, missing_of)
}

fn effective(status: &str) -> Option<u64> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(hex.trim(), 16).ok()
}

fn missing_of(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    // CAP_SYS_ADMIN stands for CAP_BPF, as before that was made.
    let wanted = [("CAP_BPF", has(BPF) || has(SYS_ADMIN)), ("CAP_NET_ADMIN", has(NET_ADMIN))];
    wanted.into_iter().filter_map(|(name, has)| (!has).then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", Some(vec![]), "root"),
            ("CapEff:\t0000008000001000\n", Some(vec![]), "CAP_BPF and CAP_NET_ADMIN"),
            ("CapEff:\t0000000000201000\n", Some(vec![]), "CAP_SYS_ADMIN and CAP_NET_ADMIN"),
            ("CapEff:\t0000000000001000\n", Some(vec!["CAP_BPF"]), "CAP_NET_ADMIN"),
            ("CapEff:\t0000000000000000\n", Some(vec!["CAP_BPF", "CAP_NET_ADMIN"]), "nobody"),
            ("CapPrm:\t0000000000000000\n", None, "no such line"),
        ];
        for (status, want, case) in cases {
            assert_eq!(effective(status).map(missing_of), want, "{case}");
        }
    }
}
