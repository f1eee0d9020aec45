//! Splitting a command line into options, as popt does.
//!
//! Short options may be clustered (`-Lnc`), their value may follow at once (`-p300`, `-p=300`) or as the next
//! word; long options take `--name value` or `--name=value`. A word that is no option is kept for the end.

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// A value, unless the next word begins with a dash or there is none.
    PerhapsValue,
}

macro_rules! names {
    ($($name:ident $long:literal $short:literal $takes:ident,)+) => {
        /// An option's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Name {
            $($name,)+
        }

        impl Name {
            /// (name, long, short or NUL, what it takes)
            const ALL: &[(Self, &'static str, char, Takes)] = &[$((Self::$name, $long, $short, Takes::$takes),)+];

            /// The long name.
            pub(crate) const fn long(self) -> &'static str {
                match self { $(Self::$name => $long,)+ }
            }
        }
    };
}

names! {
    AddService "add-service" 'A' Nothing,
    EditService "edit-service" 'E' Nothing,
    DeleteService "delete-service" 'D' Nothing,
    Clear "clear" 'C' Nothing,
    Restore "restore" 'R' Nothing,
    Save "save" 'S' Nothing,
    AddServer "add-server" 'a' Nothing,
    EditServer "edit-server" 'e' Nothing,
    DeleteServer "delete-server" 'd' Nothing,
    List "list" 'L' Nothing,
    ListToo "list" 'l' Nothing,
    Zero "zero" 'Z' Nothing,
    Set "set" '\0' Nothing,
    StartDaemon "start-daemon" '\0' Value,
    StopDaemon "stop-daemon" '\0' Value,
    Help "help" 'h' Nothing,
    Version "version" 'v' Nothing,
    TcpService "tcp-service" 't' Value,
    UdpService "udp-service" 'u' Value,
    SctpService "sctp-service" '\0' Value,
    MarkService "fwmark-service" 'f' Value,
    Ipv6 "ipv6" '6' Nothing,
    Scheduler "scheduler" 's' Value,
    Engine "pe" '\0' Value,
    Persistent "persistent" 'p' PerhapsValue,
    Netmask "netmask" 'M' Value,
    SchedulerFlags "sched-flags" 'b' Value,
    OnePacket "ops" 'o' Nothing,
    RealServer "real-server" 'r' Value,
    Gatewaying "gatewaying" 'g' Nothing,
    Ipip "ipip" 'i' Nothing,
    Masquerading "masquerading" 'm' Nothing,
    TunnelType "tun-type" '\0' Value,
    TunnelPort "tun-port" '\0' Value,
    TunnelNoChecksum "tun-nocsum" '\0' Nothing,
    TunnelChecksum "tun-csum" '\0' Nothing,
    TunnelRemoteChecksum "tun-remcsum" '\0' Nothing,
    Weight "weight" 'w' Value,
    UpperThreshold "u-threshold" 'x' Value,
    LowerThreshold "l-threshold" 'y' Value,
    Connection "connection" 'c' Nothing,
    Timeout "timeout" '\0' Nothing,
    Daemon "daemon" '\0' Nothing,
    Stats "stats" '\0' Nothing,
    Rate "rate" '\0' Nothing,
    Exact "exact" 'X' Nothing,
    Thresholds "thresholds" '\0' Nothing,
    PersistentConn "persistent-conn" '\0' Nothing,
    TunnelInfo "tun-info" '\0' Nothing,
    NoSort "nosort" '\0' Nothing,
    Sort "sort" '\0' Nothing,
    Numeric "numeric" 'n' Nothing,
    SyncId "syncid" '\0' Value,
    SyncMaxLen "sync-maxlen" '\0' Value,
    MulticastInterface "mcast-interface" '\0' Value,
    MulticastGroup "mcast-group" '\0' Value,
    MulticastPort "mcast-port" '\0' Value,
    MulticastTtl "mcast-ttl" '\0' Value,
}

/// Why a word is no option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadOption {
    /// The word.
    pub(crate) word: String,
    /// popt's text.
    pub(crate) reason: &'static str,
}

/// The options of a command line, one after the other.
pub(crate) struct Options<'a> {
    words: std::slice::Iter<'a, &'a str>,
    /// How many words there are.
    all: usize,
    /// What is left of a cluster, and the word it is in.
    cluster: &'a str,
    cluster_word: &'a str,
    /// After `--` nothing is an option.
    ended: bool,
    leftover: Vec<&'a str>,
}

impl<'a> Options<'a> {
    pub(crate) fn new(words: &'a [&'a str]) -> Self {
        Self {
            words: words.iter(),
            all: words.len(),
            cluster: "",
            cluster_word: "",
            ended: false,
            leftover: Vec::new(),
        }
    }

    /// How many words were taken so far. The value of the option that came last ends the last of them.
    pub(crate) fn taken(&self) -> usize {
        self.all - self.words.len()
    }

    /// Words that are no options; whole once [`Self::next`] has returned `None`.
    pub(crate) fn leftover(&self) -> &[&'a str] {
        &self.leftover
    }

    /// The next option with its value.
    pub(crate) fn next(&mut self) -> Option<Result<(Name, Option<&'a str>), BadOption>> {
        if self.cluster.is_empty() {
            loop {
                let word = *self.words.next()?;
                if self.ended || word == "-" || !word.starts_with('-') {
                    self.leftover.push(word);
                } else if word == "--" {
                    self.ended = true;
                } else if let Some(long) = word.strip_prefix("--") {
                    return Some(self.long(word, long));
                } else {
                    self.cluster = &word[1..];
                    self.cluster_word = word;
                    break;
                }
            }
        }
        Some(self.short())
    }

    fn long(&mut self, word: &str, long: &'a str) -> Result<(Name, Option<&'a str>), BadOption> {
        let (long, attached) = match long.split_once('=') {
            Some((long, value)) => (long, Some(value)),
            None => (long, None),
        };
        let bad = |reason| BadOption { word: word.to_owned(), reason };
        let &(name, .., takes) =
            Name::ALL.iter().find(|entry| entry.1 == long).ok_or_else(|| bad("unknown option"))?;
        match takes {
            Takes::Nothing if attached.is_some() => Err(bad("option does not take an argument")),
            Takes::Nothing => Ok((name, None)),
            _ => Ok((name, self.value(word, takes, attached)?)),
        }
    }

    fn short(&mut self) -> Result<(Name, Option<&'a str>), BadOption> {
        let word = self.cluster_word;
        let mut rest = self.cluster.chars();
        let letter = rest.next().expect("a cluster that is empty is left before");
        let rest = rest.as_str();
        let entry = Name::ALL.iter().find(|entry| letter != '\0' && entry.2 == letter);
        let Some(&(name, .., takes)) = entry else {
            self.cluster = "";
            return Err(BadOption { word: word.to_owned(), reason: "unknown option" });
        };
        if takes == Takes::Nothing {
            self.cluster = rest;
            return Ok((name, None));
        }
        self.cluster = "";
        let attached = (!rest.is_empty()).then(|| rest.strip_prefix('=').unwrap_or(rest));
        Ok((name, self.value(word, takes, attached)?))
    }

    fn value(
        &mut self,
        word: &str,
        takes: Takes,
        attached: Option<&'a str>,
    ) -> Result<Option<&'a str>, BadOption> {
        if attached.is_some() {
            return Ok(attached);
        }
        let next = self.words.as_slice().first();
        match (next, takes) {
            (Some(next), Takes::PerhapsValue) if next.starts_with('-') => Ok(None),
            (Some(_), _) => Ok(self.words.next().copied()),
            (None, Takes::PerhapsValue) => Ok(None),
            (None, _) => Err(BadOption { word: word.to_owned(), reason: "missing argument" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(words: &[&str]) -> (Vec<(Name, Option<String>)>, Vec<String>) {
        let mut options = Options::new(words);
        let mut found = Vec::new();
        while let Some(option) = options.next() {
            let (name, value) = option.unwrap();
            found.push((name, value.map(str::to_owned)));
        }
        (found, options.leftover().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn clusters_values_and_leftovers() {
        use Name::{Connection, List, Numeric, Persistent, Scheduler, Set, TcpService, Weight};
        let value = |text: &str| Some(text.to_owned());
        type Case<'a> = (&'a [&'a str], Vec<(Name, Option<String>)>, &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (&["-Lnc"], vec![(List, None), (Numeric, None), (Connection, None)], &[]),
            (&["--list", "-n"], vec![(List, None), (Numeric, None)], &[]),
            (
                &["-t", "a:1", "-p", "-s", "rr"],
                vec![(TcpService, value("a:1")), (Persistent, None), (Scheduler, value("rr"))],
                &[],
            ),
            (&["-p", "300"], vec![(Persistent, value("300"))], &[]),
            (&["-p300", "-p=5"], vec![(Persistent, value("300")), (Persistent, value("5"))], &[]),
            (&["-p"], vec![(Persistent, None)], &[]),
            (&["--weight=3", "-w", "-1"], vec![(Weight, value("3")), (Weight, value("-1"))], &[]),
            (&["--set", "1", "2", "3"], vec![(Set, None)], &["1", "2", "3"]),
            (&["-n", "--", "-n"], vec![(Numeric, None)], &["-n"]),
        ];
        for (words, want, leftover) in cases {
            let (found, rest) = all(words);
            assert_eq!(&found, want, "{words:?}");
            assert_eq!(rest, *leftover, "{words:?}");
        }
    }

    #[test]
    fn what_is_no_option_is_named() {
        let cases = [
            (&["--nosuch"][..], "--nosuch", "unknown option"),
            (&["-Lq"], "-Lq", "unknown option"),
            (&["-w"], "-w", "missing argument"),
            (&["--weight"], "--weight", "missing argument"),
            (&["--stats=1"], "--stats=1", "option does not take an argument"),
        ];
        for (words, word, reason) in cases {
            let mut options = Options::new(words);
            let bad = loop {
                match options.next().expect("an error comes") {
                    Ok(_) => {}
                    Err(bad) => break bad,
                }
            };
            assert_eq!(bad, BadOption { word: word.to_owned(), reason }, "{words:?}");
        }
    }
}
