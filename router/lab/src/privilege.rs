//! What a lab needs from the system, and what to do where it is refused.
//!
//! A lab needs CAP_SYS_ADMIN (to make network namespaces) and CAP_NET_ADMIN and CAP_NET_RAW inside them. Root
//! has them; anybody else gets them in a user namespace of his own, where the system allows it.

use std::fs::{self, OpenOptions};
use std::thread;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// How this process came to be allowed to make a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It had the capabilities.
    Root,
    /// It is now root in a user namespace of its own, and nobody special outside.
    UserNamespace,
}

/// Bit numbers of `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;

/// Makes sure that this process may build a lab, entering a user namespace when it is not root.
///
/// # Errors
/// Says which setting of the system stands in the way and how to change it. A user namespace can be entered by a
/// process of one thread only: call this before any thread is started.
pub fn acquire() -> Result<Privilege> {
    if has_capabilities()? {
        check_namespaces("as root")?;
        return Ok(Privilege::Root);
    }
    enter_user_namespace()?;
    check_namespaces("in a user namespace")?;
    Ok(Privilege::UserNamespace)
}

/// Whether [`acquire`] would need no user namespace.
///
/// # Errors
/// `/proc` is not mounted.
pub fn has_capabilities() -> Result<bool> {
    let status =
        fs::read_to_string("/proc/thread-self/status").context("cannot read /proc/thread-self/status")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .context("/proc/thread-self/status has no CapEff line")?;
    Ok([CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN].iter().all(|bit| effective & (1 << bit) != 0))
}

/// Makes sure that TUN and TAP devices can be opened.
///
/// # Errors
/// Says what is wrong with `/dev/net/tun` and how to mend it.
pub fn check_tun() -> Result<()> {
    let path = "/dev/net/tun";
    let Err(error) = OpenOptions::new().read(true).write(true).open(path) else { return Ok(()) };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EACCES | Errno::EPERM) => bail!(
            "{path} cannot be opened: {error}\n  \
             fix: run as root, or let everybody open it, as most systems do (harmless: making a device still takes \
             CAP_NET_ADMIN): sudo chmod 0666 {path}; in a container: --device {path}"
        ),
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => bail!(
            "there is no {path}: {error}\n  \
             fix: sudo modprobe tun; in a container: --device {path}"
        ),
        _ => Err(error).with_context(|| format!("{path} cannot be opened")),
    }
}

/// Becomes root in a new user namespace; uid 0 inside is the user outside.
fn enter_user_namespace() -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("cannot read /proc/self/task")?.count();
    if threads > 1 {
        bail!("a user namespace can only be entered before threads are started, and there are {threads}");
    }
    let (uid, gid) = (geteuid(), getegid());
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWUSER) {
        bail!(
            "not root, and no user namespace can be made: {errno}\n  fix: {}",
            user_namespace_advice(errno)
        );
    }
    // The kernel takes a gid map from an unprivileged process only after setgroups is given up.
    let maps = [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ];
    for (path, text) in maps {
        fs::write(path, text).map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw);
            anyhow::anyhow!("cannot write {path}: {error}\n  fix: {}", user_namespace_advice(errno))
        })?;
    }
    Ok(())
}

/// Tries a network namespace on a thread that ends at once.
fn check_namespaces(how: &str) -> Result<()> {
    let tried = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    match tried {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) => bail!(
            "no network namespace can be made {how}: {errno}\n  fix: {}",
            if how == "as root" { container_advice() } else { user_namespace_advice(errno) }
        ),
        Err(_) => bail!("the thread that tried a network namespace panicked"),
    }
}

/// What to do about a user namespace that was refused with `errno`, by the settings found on this system.
fn user_namespace_advice(errno: Errno) -> String {
    let setting = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).as_deref() == Some(value);
    if errno == Errno::ENOSPC || is("/proc/sys/user/max_user_namespaces", "0") {
        "run as root, or allow user namespaces: sudo sysctl user.max_user_namespaces=10000".to_owned()
    } else if is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "run as root, or allow user namespaces: sudo sysctl kernel.unprivileged_userns_clone=1".to_owned()
    } else if is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "run as root, or allow user namespaces: \
         sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            .to_owned()
    } else {
        format!("run as root; {}", container_advice())
    }
}

fn container_advice() -> String {
    "in a container, start it with --cap-add SYS_ADMIN --cap-add NET_ADMIN --cap-add NET_RAW \
     --device /dev/net/tun and a seccomp and AppArmor profile that lets it make namespaces (or --privileged)"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_refusal() {
        assert!(user_namespace_advice(Errno::ENOSPC).contains("user.max_user_namespaces"));
        let other = user_namespace_advice(Errno::EPERM);
        assert!(other.contains("root"), "{other}");
    }
}
