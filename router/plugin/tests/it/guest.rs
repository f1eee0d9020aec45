//! Components written by hand, and the service they are tried on.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use uvs_director::Instant;
use uvs_director::scheduler::{Candidate, Flow, Load, Scheduler, Wlc};
use uvs_director::spec::Protocol;
use uvs_plugin::{Host, Module, Plugin, Policy, SchedulerStats};

/// The bodies of the five exports, as instructions of a core function.
///
/// `schedule` has the flow and the words in named locals (`$mark`, `$words`, `$count`, ...) and leaves what
/// `$some` or `$none` returned; `init` leaves what `$ok` or `$refuse` returned. Memory from 64 to 4096 is free.
#[derive(Clone, Copy)]
pub(crate) struct Guest<'a> {
    pub(crate) init: &'a str,
    pub(crate) update: &'a str,
    pub(crate) schedule: &'a str,
    pub(crate) save: &'a str,
    pub(crate) restore: &'a str,
    /// Further fields of the module: globals, functions.
    pub(crate) fields: &'a str,
}

impl Guest<'static> {
    /// Always picks position 1.
    pub(crate) const GOOD: Self = Self {
        init: "call $ok",
        update: "",
        schedule: "(call $some (i32.const 1))",
        save: "(i32.store (i32.const 32) (i32.const 64)) (i32.store (i32.const 36) (i32.const 0)) (i32.const 32)",
        restore: "(i32.const 0)",
        fields: "",
    };
}

impl Guest<'_> {
    /// A component that hears of events: `fields` holds what [`observe`] makes.
    pub(crate) fn observing(&self) -> Vec<u8> {
        let exports = &["init", "update", "schedule", "save", "restore", "feedback"];
        wat::parse_str(self.text(&World { exports, ..World::default() }))
            .expect("the test's component is well-formed")
    }

    pub(crate) fn component(&self) -> Vec<u8> {
        wat::parse_str(self.text(&World::default())).expect("the test's component is well-formed")
    }

    pub(crate) fn text(&self, world: &World<'_>) -> String {
        let Self { init, update, schedule, save, restore, fields } = self;
        let World { version, imports, exports, core_imports } = world;
        let exports: String =
            ALL_EXPORTS.iter().filter(|(name, _)| exports.contains(name)).map(|(_, text)| *text).collect();
        format!(
            r#"(component
  (import "uvs:scheduler/types@{version}" (instance $types
    (type $p (enum "tcp" "udp" "sctp"))
    (export "protocol" (type $protocol (eq $p)))
    (type $f (record (field "protocol" $protocol)
      (field "client-hi" u64) (field "client-lo" u64) (field "client-port" u16)
      (field "virtual-hi" u64) (field "virtual-lo" u64) (field "virtual-port" u16) (field "mark" u32)))
    (export "flow" (type (eq $f)))
    (type $d (record (field "id" u32) (field "weight" u32)
      (field "address-hi" u64) (field "address-lo" u64) (field "port" u16)))
    (export "destination" (type (eq $d)))))
  (alias export $types "flow" (type $flow))
  (alias export $types "destination" (type $destination))
  (import "log" (func $log (param "level" u8) (param "message" string)))
  (import "random" (func $random (result u64)))
  (import "now-ms" (func $now (result u64)))
  {imports}
  (core module $heap
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      ;; A word at 0 that is not zero makes it hand out an address beyond the memory.
      (if (i32.load (i32.const 0)) (then (return (i32.const -65536))))
      (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (if (i32.gt_u (i32.add (global.get $next) (local.get 3)) (i32.const 131072))
        (then (global.set $next (i32.const 4096))))
      (global.get $next)
      (global.set $next (i32.add (global.get $next) (local.get 3)))))
  (core instance $heap (instantiate $heap))
  (core func $log-core (canon lower (func $log) (memory (core memory $heap "memory"))))
  (core func $random-core (canon lower (func $random)))
  (core func $now-core (canon lower (func $now)))
  (core module $guest
    (import "env" "memory" (memory 1))
    (import "env" "log" (func $log (param i32 i32 i32)))
    (import "env" "random" (func $random (result i64)))
    (import "env" "now" (func $now (result i64)))
    {core_imports}
    {fields}
    (func $some (param i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (local.get 0)) (i32.const 16))
    (func $none (result i32) (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16))
    (func $ok (result i32) (i32.store8 (i32.const 16) (i32.const 0)) (i32.const 16))
    (func $refuse (param $text i32) (param $len i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (local.get $text)) (i32.store (i32.const 24) (local.get $len)) (i32.const 16))
    (func (export "init") (param i32 i32) (param $options i32) (param $options_len i32) (result i32) {init})
    (func (export "update") (param $list i32) (param $len i32) {update})
    (func (export "schedule") (param $protocol i32)
      (param $client_hi i64) (param $client_lo i64) (param $client_port i32)
      (param $virtual_hi i64) (param $virtual_lo i64) (param $virtual_port i32) (param $mark i32)
      (param $words i32) (param $count i32) (result i32) {schedule})
    (func (export "save") (result i32) {save})
    (func (export "restore") (param $state i32) (param $len i32) (result i32) {restore}))
  (core instance $guest (instantiate $guest (with "env" (instance
    (export "memory" (memory $heap "memory"))
    (export "log" (func $log-core))
    (export "random" (func $random-core))
    (export "now" (func $now-core))))))
  {exports})"#
        )
    }
}

/// The optional interface, whose core function takes `$list` and `$len`; a further field of the guest, named in
/// `fields`.
const FEEDBACK: &str = r#"(func $observe (param "events" (list u64))
             (canon lift (core func $guest "observe") (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
           (instance $feedback (export "observe" (func $observe)))
           (export "uvs:scheduler/feedback@0.1.0" (instance $feedback))"#;

/// A core function `observe` with this body, for [`Guest::fields`] of a guest of [`Guest::observing`].
pub(crate) fn observe(body: &str) -> String {
    format!(r#"(func (export "observe") (param $list i32) (param $len i32) {body})"#)
}

const ALL_EXPORTS: [(&str, &str); 6] = [
    ("feedback", FEEDBACK),
    (
        "init",
        r#"(func $init (param "service" string) (param "options" string) (result (result (error string)))
             (canon lift (core func $guest "init") (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
           (export "init" (func $init))"#,
    ),
    (
        "update",
        r#"(func $update (param "destinations" (list $destination))
             (canon lift (core func $guest "update") (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
           (export "update" (func $update))"#,
    ),
    (
        "schedule",
        r#"(func $schedule (param "flow" $flow) (param "changed" (list u64)) (result (option u32))
             (canon lift (core func $guest "schedule") (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
           (export "schedule" (func $schedule))"#,
    ),
    (
        "save",
        r#"(func $save (result (list u8)) (canon lift (core func $guest "save") (memory (core memory $heap "memory"))))
           (export "save" (func $save))"#,
    ),
    (
        "restore",
        r#"(func $restore (param "state" (list u8)) (result bool)
             (canon lift (core func $guest "restore") (memory (core memory $heap "memory")) (realloc (core func $heap "realloc"))))
           (export "restore" (func $restore))"#,
    ),
];

/// What stands around the guest.
pub(crate) struct World<'a> {
    pub(crate) version: &'a str,
    pub(crate) imports: &'a str,
    pub(crate) exports: &'a [&'a str],
    pub(crate) core_imports: &'a str,
}

impl Default for World<'_> {
    fn default() -> Self {
        Self {
            version: uvs_plugin::CONTRACT,
            imports: "",
            exports: &["init", "update", "schedule", "save", "restore"],
            core_imports: "",
        }
    }
}

/// One host for all tests with the default policy.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(Policy::default()).unwrap())
}

pub(crate) fn flow(mark: u32) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        client: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
        client_port: 40_000,
        virtual_addr: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        virtual_port: 443,
        mark,
    }
}

pub(crate) fn candidate(id: u32, weight: u32, load: Load) -> Candidate {
    let [.., a, b] = id.to_be_bytes();
    Candidate { id, weight, address: IpAddr::V4(Ipv4Addr::new(10, 0, a, b)), port: 80, load }
}

pub(crate) fn active(active: u32) -> Load {
    Load { active, ..Load::default() }
}

/// A service on one module with five destinations:
///
/// | position | 0 | 1 | 2 | 3 | 4 |
/// | --- | --- | --- | --- | --- | --- |
/// | | loaded, unavailable | loaded; a good guest's pick | least loaded: the fallback's pick | quiesced | loaded |
pub(crate) struct Service {
    pub(crate) plugin: Plugin,
    pub(crate) now: Instant,
}

/// Where the module of [`Guest::GOOD`] puts connections.
pub(crate) const BY_MODULE: Option<u32> = Some(1);
/// Where the fallback puts them.
pub(crate) const BY_FALLBACK: Option<u32> = Some(2);

pub(crate) fn destinations() -> Vec<Candidate> {
    vec![
        candidate(10, 1, Load { active: 9, inactive: 0, unavailable: true }),
        candidate(11, 1, active(5)),
        candidate(12, 1, active(1)),
        candidate(13, 0, active(0)),
        candidate(14, 1, active(7)),
    ]
}

impl Service {
    pub(crate) fn new(guest: Guest<'_>) -> Self {
        Self::on(&compile(host(), guest))
    }

    pub(crate) fn on(module: &Module) -> Self {
        let plugin = Plugin::new(module, "tcp 192.0.2.10:443", "", Box::new(Wlc::default()), 7).unwrap();
        let mut service = Self { plugin, now: Instant::ZERO };
        service.plugin.update(&destinations());
        service
    }

    /// A pick for a connection with this mark; no load changed.
    pub(crate) fn pick(&mut self, mark: u32) -> Option<u32> {
        self.plugin.schedule(&flow(mark), &[], self.now)
    }

    pub(crate) fn stats(&self) -> &Arc<SchedulerStats> {
        self.plugin.stats()
    }
}

pub(crate) fn compile(host: &Host, guest: Guest<'_>) -> Module {
    host.compile("test guest", &guest.component()).unwrap()
}
