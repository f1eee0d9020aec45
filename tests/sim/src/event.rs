//! What can happen in the world, and its text form: one event a line, `name key=value ...`.
//!
//! An event means something whatever happened before it (a number that names one of several things is taken modulo how
//! many there are; what has no object does nothing), so that a script can be cut anywhere.

use std::fmt;
use std::str::FromStr;

/// Declares an enum whose variants are words of the text form.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("{other:?} is none of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words! {
    /// One side of the director.
    Side {
        /// Where clients are, and the router to others: the director's port 0.
        Client = "client",
        /// Where real servers are: port 1.
        Server = "server",
    }
}

words! {
    /// What a link does to the first frame in it.
    Fate {
        /// It arrives.
        Pass = "pass",
        /// It is lost.
        Lose = "lose",
        /// It arrives, and a copy stays in the link.
        Copy = "copy",
        /// The one behind it overtakes it.
        Swap = "swap",
    }
}

words! {
    /// How packets reach a destination.
    Method {
        /// Network address translation.
        Nat = "nat",
        /// Direct routing.
        Dr = "dr",
        /// IP in IP.
        Ipip = "ipip",
        /// Generic UDP encapsulation.
        Gue = "gue",
        /// Generic routing encapsulation.
        Gre = "gre",
    }
}

words! {
    /// A scheduler.
    Policy {
        /// Weighted least connection.
        Wlc = "wlc",
        /// Round robin.
        Rr = "rr",
        /// By the client's address and port.
        Sh = "sh",
    }
}

words! {
    /// What is wrong with schedulers.
    Trap {
        /// Nothing.
        None = "none",
        /// None can be made.
        Create = "create",
        /// They pick nothing.
        Nothing = "nothing",
        /// They pick what is not there.
        Range = "range",
        /// They pick the first, quiesced and overloaded or not.
        First = "first",
    }
}

words! {
    /// What is wrong with the flow cache.
    Fault {
        /// Nothing.
        None = "none",
        /// It has no room.
        Full = "full",
        /// No packet passes where it is.
        Elsewhere = "elsewhere",
        /// What it should tell does not reach the director for now: its ring fills up.
        Silent = "silent",
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $variant:ident = $word:literal { $($field:ident: $type:ty,)* })+) => {
        /// One step of the world.
        #[allow(missing_docs, reason = "the docs of an event tell of its fields")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event { $($(#[$doc])* $variant { $($field: $type,)* },)+ }

        impl fmt::Display for Event {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match *self {
                    $(Self::$variant { $($field,)* } => {
                        f.write_str($word)?;
                        $(write!(f, concat!(" ", stringify!($field), "={}"), $field)?;)*
                        Ok(())
                    })+
                }
            }
        }

        impl FromStr for Event {
            type Err = String;
            fn from_str(line: &str) -> Result<Self, String> {
                let mut words = line.split_whitespace();
                match words.next().unwrap_or_default() {
                    $($word => {
                        $(let $field = value::<$type>(words.next(), stringify!($field))?;)*
                        match words.next() {
                            None => Ok(Self::$variant { $($field,)* }),
                            Some(more) => Err(format!("{more:?} is too much for {}", $word)),
                        }
                    })+
                    other => Err(format!("there is no event {other:?}")),
                }
            }
        }
    };
}

fn value<T: FromStr<Err: fmt::Display>>(word: Option<&str>, key: &str) -> Result<T, String> {
    let word = word.ok_or_else(|| format!("{key}=... is missing"))?;
    let text = word.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
    let text = text.ok_or_else(|| format!("{key}=... is expected, not {word:?}"))?;
    text.parse().map_err(|error| format!("{key}: {error}"))
}

events! {
    /// A client opens a TCP connection and has so many segments of that size to send.
    Connect = "connect" { client: u32, port: u32, slot: u32, size: u32, count: u32, }
    /// A client sends on a connection, or datagrams at once.
    Send = "send" { client: u32, port: u32, slot: u32, size: u32, count: u32, }
    /// A client closes a connection.
    Close = "close" { client: u32, port: u32, slot: u32, }
    /// A client resets a connection.
    Reset = "reset" { client: u32, port: u32, slot: u32, }
    /// SYNs, or datagrams, from ports that nobody listens on.
    Flood = "flood" { client: u32, slot: u32, first: u32, count: u32, }
    /// A segment with these flags out of nowhere.
    Stray = "stray" { client: u32, port: u32, slot: u32, flags: u32, }
    /// One of a server's connections has more to send.
    Push = "push" { server: u32, nth: u32, size: u32, count: u32, }
    /// A server closes one of its connections.
    Shut = "shut" { server: u32, nth: u32, }
    /// A frame comes to the director: the flow cache takes it, or it waits for a worker.
    Arrive = "arrive" { side: Side, fate: Fate, }
    /// A worker handles frames that wait.
    Work = "work" { worker: u32, count: u32, }
    /// A frame of the director comes to a station.
    Deliver = "deliver" { side: Side, fate: Fate, }
    /// All that moves arrives, until nothing moves.
    Settle = "settle" {}
    /// Time passes; timers run.
    Advance = "advance" { ms: u32, }
    /// Time passes; the director's timers are late.
    Skip = "skip" { ms: u32, }
    /// A service is added; clients stick for so many seconds, 0: they do not.
    AddService = "add-service" { slot: u32, policy: Policy, persist: u32, }
    /// A service is edited.
    EditService = "edit-service" { slot: u32, policy: Policy, persist: u32, }
    /// A service's scheduler is made anew.
    Renew = "renew" { slot: u32, }
    /// A service is removed.
    RemoveService = "remove-service" { slot: u32, }
    /// A destination is added.
    AddDest = "add-dest" { slot: u32, server: u32, method: Method, weight: u32, upper: u32, }
    /// A destination is edited.
    EditDest = "edit-dest" { slot: u32, server: u32, method: Method, weight: u32, upper: u32, }
    /// A destination is removed.
    RemoveDest = "remove-dest" { slot: u32, server: u32, }
    /// Options are set, all others to their defaults.
    Options = "options" { nodest: u32, quiescent: u32, reuse: u32, drop_entry: u32, secure: u32, compat: u32, }
    /// Timeouts, in seconds.
    Timeouts = "timeouts" { tcp: u32, fin: u32, udp: u32, }
    /// An interface's MTU.
    Mtu = "mtu" { side: Side, bytes: u32, }
    /// The same network is set again.
    Reload = "reload" {}
    /// Counters are set to zero.
    Zero = "zero" {}
    /// A server gets another MAC address, and says so or not.
    Remac = "remac" { server: u32, announce: u32, }
    /// A server does not answer ARP and ND, or does again.
    Mute = "mute" { server: u32, on: u32, }
    /// Strangers ask for a VIP.
    Strangers = "strangers" { side: Side, first: u32, count: u32, }
    /// Schedulers fail.
    Scheduler = "scheduler" { trap: Trap, }
    /// How many flows have room in the cache.
    CacheLimit = "cache-limit" { flows: u32, }
    /// The flow cache fails.
    CacheFault = "cache-fault" { fault: Fault, }
    /// The flow cache forgets all flows.
    CacheForget = "cache-forget" {}
    /// The links under the flow cache are others.
    LinksMoved = "links-moved" {}
    /// Everybody stops, and time passes until the director should know of nothing any more.
    Idle = "idle" {}
}

/// The world as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// What seeds the director.
    pub seed: u64,
    /// Workers.
    pub workers: u32,
    /// Whether there is a flow cache.
    pub cache: bool,
    /// Limit of the connection table.
    pub connections: u32,
    /// Limit of the neighbour table.
    pub neighbors: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self { seed: 1, workers: 1, cache: false, connections: 1000, neighbors: 64 }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, workers, cache, connections, neighbors } = self;
        write!(
            f,
            "world seed={seed} workers={workers} cache={cache} connections={connections} neighbors={neighbors}"
        )
    }
}

/// A world and what happens in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// How it begins.
    pub setup: Setup,
    /// What happens.
    pub events: Vec<Event>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.setup)?;
        self.events.iter().try_for_each(|event| writeln!(f, "{event}"))
    }
}

impl FromStr for Script {
    type Err = String;

    /// Reads a script; empty lines and what follows `#` are passed over.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut setup = None;
        let mut events = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            let told = |error| format!("line {number}: {error}");
            match setup {
                _ if line.is_empty() => {}
                None => setup = Some(read_setup(line).map_err(told)?),
                Some(_) => events.push(line.parse().map_err(told)?),
            }
        }
        Ok(Self { setup: setup.ok_or("the script is empty: it begins with `world ...`")?, events })
    }
}

fn read_setup(line: &str) -> Result<Setup, String> {
    let mut words = line.split_whitespace();
    if words.next() != Some("world") {
        return Err("a script begins with `world ...`".into());
    }
    let setup = Setup {
        seed: value(words.next(), "seed")?,
        workers: value(words.next(), "workers")?,
        cache: value(words.next(), "cache")?,
        connections: value(words.next(), "connections")?,
        neighbors: value(words.next(), "neighbors")?,
    };
    if setup.workers == 0 || setup.connections == 0 {
        return Err("a world has at least one worker, and room for one connection".into());
    }
    Ok(setup)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_as_it_was_written() {
        let text = "world seed=3 workers=2 cache=true connections=9 neighbors=8\nsettle\n\
                    add-dest slot=1 server=2 method=ipip weight=3 upper=0\narrive side=server fate=copy\n";
        let script: Script = text.parse().unwrap();
        assert_eq!(script.to_string(), text);
        for (line, what) in [
            ("settle x=1", "too much"),
            ("work worker=1", "count=... is missing"),
            ("arrive side=up fate=pass", "none of client, server"),
            ("jump", "no event"),
        ] {
            let error = format!("{}{line}\n", text).parse::<Script>().unwrap_err();
            assert!(error.starts_with("line 5: ") && error.contains(what), "{error}");
        }
    }
}
