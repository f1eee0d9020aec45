//! A service to test a scheduler with, natively.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

use crate::{Destination, EventWord, Flow, Host, Level, LoadWord, Protocol, Response, Runner, Scheduler};

/// A host whose clock the test sets and whose random numbers repeat.
#[derive(Clone, Debug, Default)]
pub struct TestHost {
    /// What [`Host::now_ms`] says.
    pub now_ms: u64,
    /// What [`Host::random`] goes on from; the same seed gives the same numbers.
    pub seed: u64,
    /// What the scheduler logged.
    pub log: Vec<(Level, String)>,
}

impl Host for TestHost {
    fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.seed ^ self.seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn now_ms(&mut self) -> u64 {
        self.now_ms
    }

    fn log(&mut self, level: Level, message: &str) {
        self.log.push((level, message.to_string()));
    }
}

/// A service whose destinations are numbers: `add(2, 1)` is `ipvsadm -a -r rs2 -w 1`.
///
/// It plays the director: keeps the list in the kernel's order, counts connections, sends the loads that changed
/// and refuses wrong picks. Times and packets it knows nothing of: a connection lasts until
/// [`close`](Self::close).
///
/// ```
/// # use uvs_sdk::{testing::Lab, Destinations, Flow, Host, Scheduler};
/// # struct First;
/// # impl Scheduler for First {
/// #     fn init(_: &str, _: &str) -> Result<Self, String> { Ok(Self) }
/// #     fn schedule(&mut self, _: &Flow, table: &Destinations, _: &mut dyn Host) -> Option<u32> {
/// #         table.iter().find(|(_, d)| d.is_eligible()).map(|(position, _)| position)
/// #     }
/// # }
/// let mut lab = Lab::<First>::new("");
/// lab.add(1, 1).add(2, 1);
/// assert_eq!(lab.connect(), Some(2), "the one added last comes first");
/// lab.edit(2, 0);
/// assert_eq!(lab.connect(), Some(1));
/// ```
#[derive(Debug)]
pub struct Lab<S> {
    /// What the scheduler sees of the outside.
    pub host: TestHost,
    runner: Runner<S>,
    options: String,
    list: Vec<Destination>,
    /// The positions whose load the scheduler does not know.
    dirty: Vec<usize>,
    connections: u32,
}

impl<S: Scheduler> Lab<S> {
    /// A service without destinations.
    ///
    /// # Panics
    /// If the scheduler refuses `options`.
    pub fn new(options: &str) -> Self {
        Self {
            host: TestHost::default(),
            runner: start(options),
            options: options.to_string(),
            list: Vec::new(),
            dirty: Vec::new(),
            connections: 0,
        }
    }

    /// Adds destination `id`, 192.0.2.`id`, at the front of the list.
    ///
    /// # Panics
    /// If it is there already.
    pub fn add(&mut self, id: u32, weight: u32) -> &mut Self {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 | id));
        self.insert(Destination::new(id, weight, address, 80))
    }

    /// As [`add`](Self::add), for a destination whose address or load matters.
    ///
    /// # Panics
    /// If it is there already.
    pub fn insert(&mut self, destination: Destination) -> &mut Self {
        let id = destination.id;
        assert!(self.list.iter().all(|d| d.id != id), "destination {id} is there already");
        self.list.insert(0, destination);
        self.update()
    }

    /// Sets the weight of destination `id`.
    ///
    /// # Panics
    /// If there is none.
    pub fn edit(&mut self, id: u32, weight: u32) -> &mut Self {
        let position = self.position(id);
        self.list[position].weight = weight;
        self.update()
    }

    /// Removes destination `id`.
    ///
    /// # Panics
    /// If there is none.
    pub fn remove(&mut self, id: u32) -> &mut Self {
        let position = self.position(id);
        self.list.remove(position);
        self.update()
    }

    /// Sets the load of destination `id`.
    ///
    /// # Panics
    /// If there is none.
    pub fn load(&mut self, id: u32, active: u32, inactive: u32, available: bool) -> &mut Self {
        let position = self.position(id);
        let destination = &mut self.list[position];
        (destination.active, destination.inactive, destination.available) = (active, inactive, available);
        self.dirty.push(position);
        self
    }

    /// A new connection: which destination it goes to, where it counts as active.
    ///
    /// # Panics
    /// If the scheduler picks a position that does not exist or is not eligible.
    pub fn connect(&mut self) -> Option<u32> {
        self.connections += 1;
        let client = Ipv4Addr::from_bits(0x0a01_0000 + self.connections);
        self.connect_by(&Flow {
            protocol: Protocol::Tcp,
            client: client.into(),
            client_port: 20_000,
            virtual_addr: Ipv4Addr::new(10, 0, 0, 100).into(),
            virtual_port: 80,
            mark: 0,
        })
    }

    /// As [`connect`](Self::connect), for a client that matters.
    ///
    /// # Panics
    /// If the scheduler picks a position that does not exist or is not eligible.
    pub fn connect_by(&mut self, flow: &Flow) -> Option<u32> {
        let words: Vec<u64> =
            self.dirty.drain(..).map(|position| word(position, &self.list[position])).collect();
        let position = self.runner.schedule(flow, &words, &mut self.host)?;
        let position = position as usize;
        assert!(
            self.list.get(position).is_some_and(Destination::is_eligible),
            "position {position} of {:?} is no eligible destination",
            self.list
        );
        self.list[position].active += 1;
        self.dirty.push(position);
        Some(self.list[position].id)
    }

    /// Destination `id` takes a connection that was placed on it (or does not) `micros` after its SYN; the scheduler
    /// hears of it at once.
    ///
    /// # Panics
    /// If there is no such destination.
    pub fn respond(&mut self, id: u32, response: Response, micros: u64) -> &mut Self {
        let position = u16::try_from(self.position(id)).expect("the contract has 65536 positions");
        self.runner.observe(&[EventWord::new(position, response, micros).0], &mut self.host);
        self
    }

    /// `count` new connections.
    pub fn connect_all(&mut self, count: usize) -> Vec<Option<u32>> {
        (0..count).map(|_| self.connect()).collect()
    }

    /// One active connection of destination `id` is gone.
    ///
    /// # Panics
    /// If there is none.
    pub fn close(&mut self, id: u32) -> &mut Self {
        let position = self.position(id);
        let destination = &mut self.list[position];
        destination.active = destination.active.checked_sub(1).expect("it has an active connection");
        self.dirty.push(position);
        self
    }

    /// Puts a fresh instance in the scheduler's place, as a reload does; says whether it took the state over.
    pub fn reload(&mut self) -> bool {
        let state = self.runner.save();
        self.runner = start(&self.options);
        self.update();
        self.runner.restore(&state)
    }

    /// Puts a fresh instance in the scheduler's place that knows nothing, as a change of scheduler does.
    pub fn restart(&mut self) -> &mut Self {
        self.runner = start(&self.options);
        self.update()
    }

    /// The instance.
    pub fn runner(&mut self) -> &mut Runner<S> {
        &mut self.runner
    }

    fn update(&mut self) -> &mut Self {
        self.runner.update(&self.list);
        self.dirty.clear();
        self.dirty
            .extend((0..self.list.len()).filter(|&i| self.list[i].overhead() > 0 || !self.list[i].available));
        self
    }

    fn position(&self, id: u32) -> usize {
        self.list.iter().position(|d| d.id == id).unwrap_or_else(|| panic!("no destination {id}"))
    }
}

fn start<S: Scheduler>(options: &str) -> Runner<S> {
    Runner::new("tcp 10.0.0.100:80", options).unwrap_or_else(|error| panic!("options refused: {error}"))
}

fn word(position: usize, destination: &Destination) -> u64 {
    let position = u16::try_from(position).expect("the contract has 65536 positions");
    LoadWord::new(position, destination.active, destination.inactive, destination.available).0
}

/// Picks in a line, `3 2 1 -`, to compare and to read; `-` is no destination.
pub fn line(picks: &[Option<u32>]) -> String {
    struct Line<'a>(&'a [Option<u32>]);
    impl fmt::Display for Line<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            for (i, pick) in self.0.iter().enumerate() {
                if i > 0 {
                    f.write_str(" ")?;
                }
                match pick {
                    Some(id) => write!(f, "{id}")?,
                    None => f.write_str("-")?,
                }
            }
            Ok(())
        }
    }
    Line(picks).to_string()
}
