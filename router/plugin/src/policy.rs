//! Every bound the host puts on a module, in one place.

use uvs_director::Duration;

/// What a module may use, and when the host stops trusting it. The defaults suit schedulers compiled from
/// Rust or C; one that carries an interpreter with it needs more fuel.
///
/// Fuel is counted in wasm instructions, about one each; bulk copies cost one per byte, calls of an import
/// [`Policy::fuel_per_import`]. Plain code spends a million in 0.2 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Largest file of a module, in bytes: 16 MiB.
    pub module_bytes: usize,
    /// Processor time that a module may take to compile, in whole seconds: 60 s. By the clock it may take twice as
    /// long.
    pub compile_time: Duration,
    /// Address space that compiling one may take beside what an idle compiler has, in bytes: 2 GiB.
    pub compile_bytes: usize,
    /// Linear memory of one instance, all its memories together, in bytes: 64 MiB.
    pub memory_bytes: usize,
    /// Whether each linear memory gets 4 GiB of address space, so that loads and stores need no checks of bounds: true,
    /// but a host of a process whose address space is limited does without. The checks cost 2 to 5 % of most picks, and
    /// 30 % of those that go through a long table.
    pub guard_pages: bool,
    /// Table elements of one instance, all its tables together: 100 000.
    pub table_elements: usize,
    /// Stack of a call in bytes: 256 KiB. A thread that calls a scheduler needs this much and 128 KiB more.
    pub stack_bytes: usize,
    /// Fuel of one `schedule`: 1 000 000, and ...
    pub fuel_schedule: u64,
    /// ... this much for each destination: 2 000.
    pub fuel_schedule_per_destination: u64,
    /// `save` is called while connections wait; it gets the fuel of this many picks: 10.
    pub save_picks: u64,
    /// Fuel of the calls off the packet path (instantiation, `init`, `update`, `restore`): 50 000 000,
    /// and ...
    pub fuel_setup: u64,
    /// ... this much for each destination: 100 000.
    pub fuel_setup_per_destination: u64,
    /// What calling an import costs in fuel, so that host work is paid for as well: 500. `log` costs one more
    /// for each byte.
    pub fuel_per_import: u64,
    /// Largest text or state a module may hand over in one call, in bytes: 1 MiB. One that tries more traps.
    pub handover_bytes: usize,
    /// A log message is cut at this many bytes: 1 KiB.
    pub log_message_bytes: usize,
    /// Lines an instance may log ...
    pub log_lines: u32,
    /// ... in this time: 20 in 10 s. What is over is counted and told with the next line.
    pub log_window: Duration,
    /// With this many failures (traps and bad answers alike) ...
    pub failures: u32,
    /// ... in this time the module is ejected: 5 in 10 s. Right after a return from an ejection, for as long,
    /// one failure is enough.
    pub window: Duration,
    /// How long the first ejection lasts: 1 s. Each further one lasts twice as long ...
    pub backoff: Duration,
    /// ... but never longer than this: 5 min.
    pub backoff_max: Duration,
    /// After this many ejections without a good spell between them the module is given up until the service
    /// is configured anew: 16, which is about 50 min of trying.
    pub ejections: u32,
    /// A good spell: a module that served this long after its last ejection starts with a clean slate: 10 min.
    pub forgive: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            module_bytes: 16 << 20,
            compile_time: Duration::from_secs(60),
            compile_bytes: 2 << 30,
            memory_bytes: 64 << 20,
            guard_pages: true,
            table_elements: 100_000,
            stack_bytes: 256 << 10,
            fuel_schedule: 1_000_000,
            fuel_schedule_per_destination: 2_000,
            save_picks: 10,
            fuel_setup: 50_000_000,
            fuel_setup_per_destination: 100_000,
            fuel_per_import: 500,
            handover_bytes: 1 << 20,
            log_message_bytes: 1 << 10,
            log_lines: 20,
            log_window: Duration::from_secs(10),
            failures: 5,
            window: Duration::from_secs(10),
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(300),
            ejections: 16,
            forgive: Duration::from_secs(600),
        }
    }
}

/// What the configuration grants one module: those that carry an interpreter need more than the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Largest file in MiB, if not that of the policy.
    pub module_mib: Option<u32>,
    /// How many times the fuel of the policy each call gets.
    pub fuel: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { module_mib: None, fuel: 1 }
    }
}

impl Policy {
    /// The policy with `limits`; the rest stays.
    pub fn with(self, limits: Limits) -> Self {
        let times = |fuel: u64| fuel.saturating_mul(limits.fuel.into());
        Self {
            module_bytes: limits
                .module_mib
                .map_or(self.module_bytes, |module_mib| (module_mib as usize).saturating_mul(1 << 20)),
            fuel_schedule: times(self.fuel_schedule),
            fuel_schedule_per_destination: times(self.fuel_schedule_per_destination),
            fuel_setup: times(self.fuel_setup),
            fuel_setup_per_destination: times(self.fuel_setup_per_destination),
            ..self
        }
    }

    /// Fuel of one `schedule` over `destinations`.
    pub(crate) fn schedule_fuel(&self, destinations: usize) -> u64 {
        scaled(self.fuel_schedule, self.fuel_schedule_per_destination, destinations)
    }

    /// Fuel of one `save` over `destinations`.
    pub(crate) fn save_fuel(&self, destinations: usize) -> u64 {
        self.schedule_fuel(destinations).saturating_mul(self.save_picks)
    }

    /// Fuel of one call off the packet path, over `destinations`.
    pub(crate) fn setup_fuel(&self, destinations: usize) -> u64 {
        scaled(self.fuel_setup, self.fuel_setup_per_destination, destinations)
    }
}

fn scaled(base: u64, each: u64, count: usize) -> u64 {
    base.saturating_add(each.saturating_mul(count as u64))
}
