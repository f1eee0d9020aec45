//! The command blocks of the documents, pasted into a terminal as they stand.
//!
//! Each page gets a lab of its own (`uvs lab`, in a pseudo-terminal, with a bash that knows bracketed paste). Blocks of
//! a page that are marked `sh` are pasted one after the other; what a page shows below a block (`text`) has to be in
//! what it prints, in this order. Durations may differ, and `[...]` stands for anything.
//!
//! | in the document | what it means here |
//! | --- | --- |
//! | ```` ```sh ```` | pasted; no command in it may fail |
//! | ```` ```sh,host ```` | for a person's own host (packages, toolchains, units): not pasted |
//! | ```` ```sh,enter ```` | enters the lab; that is how each page begins here anyway |
//! | `<!-- after: PAGE#anchor -->` | first the blocks of that section of another page, but for its last one |
//! | `<!-- file: NAME PATH -->` | a file that the reader has made by now: a copy of PATH of the checkout |

mod page;
mod terminal;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use page::{Block, Page};
use terminal::Terminal;

use crate::stage::{turn, uvs};

/// The pages whose blocks are pasted.
const PAGES: &[&str] = &[
    "README.md",
    "docs/direct-attach.md",
    "docs/doctor.md",
    "docs/dr.md",
    "docs/drain.md",
    "docs/failover.md",
    "docs/flow-cache.md",
    "docs/from-ipvsadm.md",
    "docs/from-keepalived.md",
    "docs/lab.md",
    "docs/operate.md",
    "docs/page.md",
    "docs/plan.md",
    "docs/scale-out.md",
    "docs/schedulers.md",
    "docs/see.md",
    "docs/top.md",
    "docs/tun-device.md",
    "docs/tun.md",
    "docs/write-a-scheduler.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Pastes the blocks of a page.
fn follow(name: &str) {
    assert!(PAGES.contains(&name), "{name} has to be in PAGES");
    let Some(_turn) = turn() else { return };
    let page = Page::read(&root(), name);
    let mut blocks = Vec::new();
    if let Some((before, anchor)) = &page.after {
        let section = Page::read(&root(), before).section(anchor);
        assert!(section.len() > 1, "{name}: {before}#{anchor} has no blocks to begin with");
        blocks.extend_from_slice(&section[..section.len() - 1]);
    }
    blocks.extend(page.blocks);
    let mut lab = Terminal::open(&uvs());
    for Block { at, text, shows } in blocks {
        let printed = lab.paste(&text).unwrap_or_else(|error| panic!("{at}: {error}\n{}", lab.all()));
        if let Err(missing) = page::is_shown(&shows, &printed) {
            panic!("{at}: the output has no {missing:?}, in this order:\n{printed}");
        }
    }
}

#[test]
fn readme() {
    follow("README.md");
}

#[test]
fn direct_attach() {
    follow("docs/direct-attach.md");
}

#[test]
fn doctor() {
    follow("docs/doctor.md");
}

#[test]
fn dr() {
    follow("docs/dr.md");
}

#[test]
fn drain() {
    follow("docs/drain.md");
}

#[test]
fn failover() {
    follow("docs/failover.md");
}

#[test]
fn flow_cache() {
    follow("docs/flow-cache.md");
}

#[test]
fn from_ipvsadm() {
    follow("docs/from-ipvsadm.md");
}

#[test]
fn from_keepalived() {
    follow("docs/from-keepalived.md");
}

#[test]
fn lab() {
    follow("docs/lab.md");
}

#[test]
fn operate() {
    follow("docs/operate.md");
}

#[test]
fn plan() {
    follow("docs/plan.md");
}

#[test]
fn scale_out() {
    follow("docs/scale-out.md");
}

#[test]
fn schedulers() {
    follow("docs/schedulers.md");
}

#[test]
fn see() {
    follow("docs/see.md");
}

#[test]
fn write_a_scheduler() {
    follow("docs/write-a-scheduler.md");
}

#[test]
fn top() {
    follow("docs/top.md");
}

#[test]
fn tun_device() {
    follow("docs/tun-device.md");
}

#[test]
fn the_page() {
    follow("docs/page.md");
}

#[test]
fn tun() {
    follow("docs/tun.md");
}

/// A lab is as its command leaves it: its exit status is kept, and nothing else of it.
#[test]
fn a_lab_ends_with_its_command() {
    let Some(_turn) = turn() else { return };
    let named = || std::fs::read_dir("/run/netns").map_or(0, Iterator::count);
    let before = named();
    let script =
        "machine lab-a br0 10.0.0.2 10.0.0.1 && ip netns list; ip netns exec lab-a sleep 60 & exit 7";
    let output = Command::new(uvs()).args(["lab", "sh", "-c", script]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("lab-a"), "{output:?}");
    assert_eq!(named(), before);
    let killed = Command::new(uvs()).args(["lab", "sh", "-c", "kill -9 $$"]).status().unwrap();
    assert_eq!(killed.code(), Some(128 + 9), "as shells say it");
    let none = Command::new(uvs()).args(["lab", "no-such-command"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("cannot start no-such-command"), "{none:?}");
}

/// A page that somebody adds is pasted too.
#[test]
fn every_page_with_commands_is_followed() {
    let root = root();
    let folder = std::fs::read_dir(root.join("docs")).unwrap().flatten();
    let names = folder.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    let pages = names.filter(|name| name.ends_with(".md")).chain(["README.md".to_owned()]);
    let with: BTreeSet<String> = pages.filter(|name| !Page::read(&root, name).blocks.is_empty()).collect();
    assert_eq!(with, PAGES.iter().map(|page| (*page).to_owned()).collect());
}

/// What has to be shown is looked for in its order, whatever it took.
#[test]
fn output_is_compared_line_by_line() {
    let shows = "this is rs2\n[...]\nup for 6 s; [...]: status 200\n  Masq    2      0";
    let printed = "starts\nthis is rs2\nthis is rs1\n up for 20 ms; 3 ms ago: status 200\n  Masq 2 0";
    assert_eq!(page::is_shown(shows, printed), Ok(()));
    assert_eq!(page::is_shown("b\na", "a\nb"), Err("a".to_owned()));
    assert_eq!(page::is_shown("Masq 2", "Masq 3"), Err("Masq 2".to_owned()));
    assert_eq!(page::is_shown("a [...] c", "a b d"), Err("a [...] c".to_owned()));
}

/// A command that fails is told, in the middle of a block as well.
#[test]
fn a_failing_command_fails_its_page() {
    let Some(_turn) = turn() else { return };
    let mut lab = Terminal::open(&uvs());
    assert_eq!(
        lab.paste("for i in 1 2; do\n  echo one $i\ndone\ncat <<'EOF'\n$two\nEOF\n").unwrap(),
        "one 1\none 2\n$two"
    );
    let error = lab.paste("echo before\nfalse\necho after").unwrap_err();
    assert!(error.contains("`false`"), "{error}");
    assert_eq!(lab.paste("echo on").unwrap(), "on", "the shell goes on");
}
