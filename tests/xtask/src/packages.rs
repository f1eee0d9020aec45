//! What Debian and its kin call a package, where a step needs it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::test::{succeeds, tell};
use crate::toolchain::output;

/// Programs that are started (or a file that is read), and the packages they come in.
const NEEDED: [(&str, &str); 22] = [
    // Links every test, and compiles the little C there is in wasmtime.
    ("cc", "gcc"),
    // Compile the programs of the direct attach, and the examples of the SDKs for C and JavaScript.
    ("clang", "clang"),
    ("llvm-strip", "llvm"),
    ("/usr/include/bpf/bpf_helpers.h", "libbpf-dev"),
    // What `uvs-bench versus` compares uvs with.
    ("nft", "nftables"),
    ("haproxy", "haproxy"),
    // Judges what `uvs import keepalived` takes for valid.
    ("keepalived", "keepalived"),
    // Reads the alert rules, and the metrics of a director.
    ("promtool", "prometheus"),
    // Go through the page as a person would; npm brings what drives the browser.
    ("chromium", "chromium"),
    ("node", "nodejs"),
    ("npm", "npm"),
    // Versions of the libraries that the Debian package needs; and what judges its unit.
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("systemd-analyze", "systemd"),
    // What health checks are tested with: none of these packages but the first starts anything by itself.
    ("nginx", "nginx-light"),
    ("dnsmasq", "dnsmasq-base"),
    ("dropbear", "dropbear-bin"),
    ("/usr/lib/python3/dist-packages/grpc/__init__.py", "python3-grpcio"),
    // Daemons that pass the routes of `[announce]` on.
    ("bird", "bird2"),
    ("/usr/lib/frr/bgpd", "frr"),
    ("exabgp", "exabgp"),
    ("wasm-ld", "lld"),
    ("/usr/lib/wasm32-wasi/libc.a", "wasi-libc"),
];

/// Whether this process is root's.
pub(crate) fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))? == "0")
}

/// Installs what is missing, as root. A sentence where something is missing and was not installed.
///
/// In CI the package lists are fetched in any case: those of an image are as old as the image.
pub(crate) fn install_missing(in_ci: bool) -> Result<Option<String>> {
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    let has_apt = is_there("apt-get");
    if !has_apt || !is_root()? {
        let install = if has_apt { "sudo apt-get install " } else { "install what has " };
        return Ok((!missing.is_empty()).then(|| format!("missing: {install}{}", missing.join(" "))));
    }
    // The wasm toolchain comes out of the package lists, too.
    let knows_compiler = succeeds(Command::new("apt-cache").args(["show", "rustc-web"]));
    if in_ci || !missing.is_empty() || !knows_compiler {
        let updated = run(Command::new("apt-get").args(["--quiet=2", "update"]));
        // A mirror out of reach matters only if something has to come from it.
        if let Err(error) = updated {
            ensure!(missing.is_empty(), "{error:#}");
            println!("warning: {error:#}");
        }
    }
    if missing.is_empty() {
        return Ok(None);
    }
    let options = ["--quiet=2", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"];
    let mut install = Command::new("apt-get");
    install.args(options).arg("install").args(&missing).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut install)?;
    Ok(None)
}

fn run(command: &mut Command) -> Result<()> {
    tell(command);
    let status = command.status().context("cannot start apt-get")?;
    ensure!(status.success(), "apt-get failed ({status})");
    Ok(())
}

/// Whether a program is in a folder of the search path, or where root's programs are; a file with its whole path is
/// looked for there alone.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(Into::into));
    folders.map(|folder| folder.join(program)).any(|file| Path::is_file(&file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_on_the_path() {
        assert!(is_there("sh"));
        assert!(!is_there("no-such-program-anywhere"));
        assert!(!is_there(""), "a folder is no program");
    }
}
