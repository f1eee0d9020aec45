//! How much memory there is for the director, and the limits that follow from it where the configuration says nothing.
//!
//! ```text
//!   what a cgroup still allows (v2: memory.max, v1: memory.limit_in_bytes; any around the process) --+
//!                                                                                                    +--> the least
//!   MemAvailable of /proc/meminfo ------------------------------------------------------------------+
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use uvs_config::{Config, Problem};

/// What an entry of the connection table takes at the most, in bytes: itself, its places in two indexes that grow, and
/// what a template shares with its connections.
const ENTRY_BYTES: u64 = 256;
/// What the flow cache takes of the kernel's memory for each connection, of both IP versions together.
const FLOW_BYTES: u64 = 500;
/// Of the memory that there is, the connection table may take the half, the flow cache and fragments an eighth and a
/// thirty-second part.
const TABLE_PART: u64 = 2;
const FLOWS_PART: u64 = 8;
const FRAGMENTS_PART: u64 = 32;
/// With less than that nothing works, whatever memory there is.
const CONNECTIONS_MIN: usize = 4096;
const FLOWS_MIN: u32 = 1024;
const FRAGMENT_BYTES_MIN: usize = 131_072;

/// The memory that the director may still take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub available: u64,
    /// What bounds it: a file.
    pub from: PathBuf,
}

impl Memory {
    /// Looks for it. `None`: nothing tells.
    pub fn find() -> Option<Self> {
        Self::find_in(Path::new("/"))
    }

    /// The same where `root` stands for the root folder.
    fn find_in(root: &Path) -> Option<Self> {
        let meminfo = root.join("proc/meminfo");
        let host = fs::read_to_string(&meminfo).ok().and_then(|text| field(&text, "MemAvailable:"));
        let host = host.map(|kib| Self { available: kib.saturating_mul(1024), from: meminfo });
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let groups = groups.lines().filter_map(|line| Group::of(root, line)).flat_map(Group::bounds);
        groups.chain(host).min_by_key(|memory| memory.available)
    }

    fn mib(&self) -> u64 {
        self.available >> 20
    }
}

/// The number behind a word.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A cgroup with the memory controller, and how its files are called.
struct Group {
    mount: PathBuf,
    path: PathBuf,
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: what of the usage is given back when it is wanted.
    cached: &'static str,
}

impl Group {
    /// By a line of `/proc/self/cgroup`: number, controllers (none: v2), path.
    fn of(root: &Path, line: &str) -> Option<Self> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let path = PathBuf::from(path.trim_start_matches('/'));
        let mount = root.join("sys/fs/cgroup");
        if controllers.is_empty() {
            let (limit, usage, cached) = ("memory.max", "memory.current", "file ");
            return Some(Self { mount, path, limit, usage, cached });
        }
        controllers.split(',').any(|controller| controller == "memory").then(|| Self {
            mount: mount.join("memory"),
            path,
            limit: "memory.limit_in_bytes",
            usage: "memory.usage_in_bytes",
            cached: "total_cache ",
        })
    }

    /// What this group and those around it leave. In a container the path may be another there: its root is looked at
    /// in any case.
    fn bounds(self) -> Vec<Memory> {
        let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let bound = |folder: &Path| {
            let from = self.mount.join(folder).join(self.limit);
            // "max", or a number beyond all memory.
            let limit = number(from.clone()).filter(|limit| *limit < 1 << 60)?;
            let usage = number(self.mount.join(folder).join(self.usage)).unwrap_or(0);
            let stat = fs::read_to_string(self.mount.join(folder).join("memory.stat")).unwrap_or_default();
            let cached = field(&stat, self.cached).unwrap_or(0);
            let available = limit.saturating_sub(usage.saturating_sub(cached));
            Some(Memory { available, from })
        };
        self.path.ancestors().filter_map(bound).collect()
    }
}

/// Lowers the limits that the configuration leaves to us to what fits into the memory, and notes that in it, for the
/// log and for `status`.
pub fn settle(config: &mut Config, memory: Option<&Memory>) {
    let Some(memory) = memory else { return };
    let mut lowered = Vec::new();
    let fit = |part: u64, bytes: u64| usize::try_from(memory.available / part / bytes).unwrap_or(usize::MAX);
    let limits = &mut config.limits;
    if config.unset.connections {
        let connections = fit(TABLE_PART, ENTRY_BYTES).max(CONNECTIONS_MIN);
        if connections < limits.connections {
            limits.connections = connections;
            lowered.push(format!("connections = {connections}"));
        }
    }
    if config.unset.flows {
        let flows = u32::try_from(fit(FLOWS_PART, FLOW_BYTES)).unwrap_or(u32::MAX).max(FLOWS_MIN);
        if flows < config.flows {
            config.flows = flows;
            lowered.push(format!("flows = {flows}"));
        }
    }
    if config.unset.fragment_bytes {
        let bytes = fit(FRAGMENTS_PART, 1).max(FRAGMENT_BYTES_MIN);
        if bytes < limits.fragment_bytes {
            limits.fragment_bytes = bytes;
            lowered.push(format!("fragment_bytes = {bytes}"));
        }
    }
    if !lowered.is_empty() {
        let (all, mib, from) = (lowered.join(", "), memory.mib(), memory.from.display());
        config.unset.lowered = Some(format!("{all}: {mib} MiB left ({from})"));
    }
}

/// What a running director settled stays as it is after a reload.
pub fn keep(running: &Config, wanted: &mut Config) {
    if running.unset.connections && wanted.unset.connections {
        wanted.limits.connections = running.limits.connections;
    }
    if running.unset.flows && wanted.unset.flows {
        wanted.flows = running.flows;
    }
    if running.unset.fragment_bytes && wanted.unset.fragment_bytes {
        wanted.limits.fragment_bytes = running.limits.fragment_bytes;
    }
}

/// What may lie free in the process before the kernel gets it back, in bytes.
const KEPT_FREE: usize = 16 << 20;

/// Notices that a table has become much smaller than it was, and has the memory given back to the kernel, of which the
/// allocator keeps most: what is freed lies between what is not.
#[derive(Debug, Default)]
pub struct Trimmer {
    /// What the table took at most since the last time.
    most: usize,
}

impl Trimmer {
    /// Whether it is time to [`give_back`], as the table takes so many bytes now.
    pub fn is_time(&mut self, bytes: usize) -> bool {
        let is_time = bytes.saturating_add(KEPT_FREE) <= self.most;
        self.most = if is_time { bytes } else { self.most.max(bytes) };
        is_time
    }
}

/// Gives what the allocator keeps of freed memory back to the kernel. It takes some milliseconds, in which others wait
/// for memory: for a thread of its own, and seldom.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "nix has no wrapper for it")]
        // SAFETY: it takes a number, touches nothing but what is free, and locks that (malloc_trim(3): MT-Safe).
        unsafe {
            nix::libc::malloc_trim(0);
        }
    }
}

/// Warns of limits in the file that cannot be reached with the memory there is.
pub fn warning(config: &Config, memory: Option<&Memory>) -> Option<Problem> {
    let memory = memory?;
    let limits = &config.limits;
    let accelerates = config.interfaces.iter().any(|it| it.accelerate != uvs_config::Accelerate::Off);
    let parts = [
        (!config.unset.connections, "connections", (limits.connections as u64).saturating_mul(ENTRY_BYTES)),
        (!config.unset.flows && accelerates, "flows", u64::from(config.flows).saturating_mul(FLOW_BYTES)),
        (!config.unset.fragment_bytes, "fragment_bytes", limits.fragment_bytes as u64),
    ];
    let given: Vec<_> = parts.into_iter().filter(|(given, ..)| *given).collect();
    let wanted = given.iter().fold(0, |sum: u64, (.., bytes)| sum.saturating_add(*bytes));
    if wanted <= memory.available {
        return None;
    }
    let (.., largest, _) = given.iter().max_by_key(|(.., bytes)| *bytes)?;
    let what = format!(
        "[limits] may take {} MiB of memory, and {} MiB are left ({})",
        wanted >> 20,
        memory.mib(),
        memory.from.display()
    );
    let fix = format!("lower {largest}, or leave it out: what is left out follows the memory");
    Some(Problem::of_file(&config.file, what, fix).warning())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_when_a_table_has_shrunk() {
        let mut trimmer = Trimmer::default();
        let mib = |mib: usize| mib << 20;
        let asked = [1, 8, 1, 100, 90, 84, 83, 84, 70, 1, 1].map(|table| trimmer.is_time(mib(table)));
        assert_eq!(asked, [false, false, false, false, false, true, false, false, false, true, false]);
        give_back();
    }

    /// A root folder with these files.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn config(limits: &str) -> Config {
        let network = "[[interface]]\nname = 'uvs0'\ndevice = 'tap'\naddresses = ['192.0.2.1/24']\n";
        Config::parse(&format!("{network}[limits]\n{limits}"), "test.toml").unwrap()
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       8000000 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n");

    #[test]
    fn the_narrowest_bound_counts() {
        let v2 = ("proc/self/cgroup", "0::/system.slice/uvs.service\n");
        let v1 = ("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/77\n0::/\n");
        /// Files with their text, what is free by them, and which of them says so.
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u64, &'a str);
        let cases: [Case<'_>; 6] = [
            ("the host alone", &[MEMINFO], 4 << 30, "proc/meminfo"),
            (
                "v2, less what is used but for caches",
                &[
                    MEMINFO,
                    v2,
                    ("sys/fs/cgroup/system.slice/uvs.service/memory.max", "100663296\n"),
                    ("sys/fs/cgroup/system.slice/uvs.service/memory.current", "30000000\n"),
                    (
                        "sys/fs/cgroup/system.slice/uvs.service/memory.stat",
                        "anon 1\nfile 10000000\nfile_mapped 3\n",
                    ),
                ],
                100_663_296 - 20_000_000,
                "sys/fs/cgroup/system.slice/uvs.service/memory.max",
            ),
            (
                "v2, by the slice around",
                &[
                    MEMINFO,
                    v2,
                    ("sys/fs/cgroup/system.slice/uvs.service/memory.max", "max\n"),
                    ("sys/fs/cgroup/system.slice/memory.max", "1000000\n"),
                ],
                1_000_000,
                "sys/fs/cgroup/system.slice/memory.max",
            ),
            ("v2, no bound", &[MEMINFO, v2, ("sys/fs/cgroup/memory.max", "max\n")], 4 << 30, "proc/meminfo"),
            (
                "v1, seen from inside",
                &[
                    MEMINFO,
                    v1,
                    ("sys/fs/cgroup/memory/memory.limit_in_bytes", "50000000\n"),
                    ("sys/fs/cgroup/memory/memory.usage_in_bytes", "60000000\n"),
                    ("sys/fs/cgroup/memory/memory.stat", "cache 5\ntotal_cache 20000000\n"),
                ],
                10_000_000,
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
            ),
            (
                "v1, no bound",
                &[
                    MEMINFO,
                    v1,
                    ("sys/fs/cgroup/memory/docker/77/memory.limit_in_bytes", "9223372036854771712\n"),
                ],
                4 << 30,
                "proc/meminfo",
            ),
        ];
        for (name, files, available, from) in cases {
            let root = root(files);
            let want = Memory { available, from: root.path().join(from) };
            assert_eq!(Memory::find_in(root.path()), Some(want), "{name}");
        }
        assert_eq!(Memory::find_in(root(&[]).path()), None, "nothing tells");
        assert!(Memory::find().is_some(), "this machine tells");
    }

    #[test]
    fn limits_that_the_file_leaves_open_follow_the_memory() {
        let memory = |mib: u64| Memory { available: mib << 20, from: "memory.max".into() };
        for (mib, connections, flows) in [(8192, 1_000_000, 65_536), (80, 163_840, 20_971), (1, 4096, 1024)] {
            let mut config = config("");
            settle(&mut config, Some(&memory(mib)));
            assert_eq!((config.limits.connections, config.flows), (connections, flows), "{mib} MiB");
            assert_eq!(config.unset.lowered.is_some(), mib < 8192);
        }
        let mut told = config("");
        settle(&mut told, Some(&memory(80)));
        let want = "connections = 163840, flows = 20971, fragment_bytes = 2621440: 80 MiB left (memory.max)";
        assert_eq!(told.unset.lowered.as_deref(), Some(want));
        let mut given = config("connections = 500_000\nflows = 60_000\nfragment_bytes = 4_000_000\n");
        settle(&mut given, Some(&memory(1)));
        assert_eq!(
            (given.limits.connections, given.unset.lowered),
            (500_000, None),
            "what the file says holds"
        );
        let mut unknown = config("");
        settle(&mut unknown, None);
        assert_eq!(unknown.limits, uvs_director::spec::Limits::default());
    }

    #[test]
    fn a_reload_keeps_what_was_settled() {
        let memory = Memory { available: 80 << 20, from: "memory.max".into() };
        let (mut running, mut wanted) = (config(""), config("neighbors = 8192\n"));
        settle(&mut running, Some(&memory));
        keep(&running, &mut wanted);
        assert_eq!((wanted.limits, wanted.flows), (running.limits, running.flows));
        let mut given = config("connections = 5\n");
        keep(&running, &mut given);
        assert_eq!(given.limits.connections, 5);
    }

    #[test]
    fn what_cannot_fit_is_warned_of() {
        let memory = Memory { available: 96 << 20, from: "memory.max".into() };
        let warned =
            |limits: &str| warning(&config(limits), Some(&memory)).map(|problem| problem.to_string());
        assert_eq!(warned(""), None);
        assert_eq!(warned("connections = 300_000\n"), None);
        let want = "warning: [limits] may take 244 MiB of memory, and 96 MiB are left (memory.max)\n  where: test.toml\n  \
                    fix:   lower connections, or leave it out: what is left out follows the memory";
        assert_eq!(warned("connections = 1_000_000\n").as_deref(), Some(want));
    }
}
