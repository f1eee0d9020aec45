//! Events, one after the other, from a seed: mostly of frames that move, some of clients and servers, few of changes.

use crate::event::{Event, Fate, Fault, Method, Policy, Setup, Side, Trap};
use crate::plan::{CLIENTS, SERVERS, SLOTS};
use crate::rng::Rng;
use crate::world::World;

/// After so many events the world is brought to rest, and has to be empty.
const IDLE_EVERY: u32 = 2500;

/// What a seed's world is like.
pub(crate) struct Generator {
    rng: Rng,
    setup: Setup,
    /// The services in use.
    slots: Vec<u32>,
    methods: Vec<Method>,
    lossy: bool,
    /// Changes are that many times rarer than packets of clients.
    calm: u32,
    /// What happens first, the next one last.
    first: Vec<Event>,
    since_idle: u32,
}

impl Generator {
    /// The events of a seed.
    pub(crate) fn new(seed: u64, workers: u32, cache: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup {
            seed,
            workers,
            cache,
            connections: rng.pick(&[12, 60, 500, 500]),
            neighbors: rng.pick(&[8, 64, 64]),
        };
        let all = u32::try_from(SLOTS.len()).expect("few services");
        let mut slots = vec![rng.below(all)];
        slots.extend((0..2 + rng.below(3)).map(|_| rng.below(all)));
        // Two services that share servers are the hardest.
        let pair: &[u32] = rng.pick(&[&[0, 1][..], &[2, 3], &[6, 8], &[0], &[2]]);
        slots.extend(pair);
        slots.sort_unstable();
        slots.dedup();
        let methods = match rng.below(4) {
            0 => Method::ALL.to_vec(),
            1 => vec![Method::Nat, Method::Dr],
            2 => vec![Method::Nat, Method::Ipip],
            _ => vec![Method::Nat],
        };
        let (lossy, calm) = (rng.one_in(3), rng.pick(&[2, 6, 20]));
        let mut generator =
            Self { rng, setup, slots, methods, lossy, calm, first: Vec::new(), since_idle: 0 };
        generator.begin();
        generator
    }

    /// The world that they are for.
    pub(crate) fn setup(&self) -> Setup {
        self.setup
    }

    fn begin(&mut self) {
        let mut first = Vec::new();
        if self.rng.one_in(2) {
            first.push(self.options());
        }
        if self.rng.one_in(2) {
            first.push(self.timeouts());
        }
        if self.setup.cache {
            first.push(Event::CacheLimit { flows: self.rng.pick(&[6, 24, 400, 400]) });
        }
        for slot in self.slots.clone() {
            first.push(Event::AddService { slot, policy: self.policy(), persist: self.persist() });
            for server in 0..SERVERS - self.rng.below(2) {
                let method = self.method();
                first.push(Event::AddDest { slot, server, method, weight: 1 + self.rng.below(3), upper: 0 });
            }
        }
        first.reverse();
        self.first = first;
    }

    /// What happens next in that world.
    pub(crate) fn next(&mut self, world: &World) -> Event {
        if let Some(event) = self.first.pop() {
            return event;
        }
        self.since_idle += 1;
        if self.since_idle > IDLE_EVERY {
            self.since_idle = 0;
            return Event::Idle {};
        }
        let moves = self.moves(world);
        if !moves.is_empty() && !self.rng.one_in(6) {
            return self.rng.pick(&moves);
        }
        if self.rng.one_in(200) {
            return Event::Settle {};
        }
        match self.rng.below(10) {
            0..3 => self.time(moves.is_empty()),
            3 if self.rng.one_in(self.calm) => self.change(world),
            3 if self.rng.one_in(4) => self.rare(),
            _ => self.traffic(world),
        }
    }

    /// What can move now.
    fn moves(&mut self, world: &World) -> Vec<Event> {
        let mut moves = Vec::new();
        for (worker, queue) in (0..).zip(&world.queues) {
            if !queue.is_empty() {
                let count = if self.rng.one_in(4) { 1 + self.rng.below(6) } else { 1 };
                moves.push(Event::Work { worker, count });
            }
        }
        for side in [Side::Client, Side::Server] {
            if !world.air[side as usize].is_empty() {
                moves.push(Event::Arrive { side, fate: self.fate() });
            }
            if !world.egress[side as usize].is_empty() {
                moves.push(Event::Deliver { side, fate: self.fate() });
            }
        }
        moves
    }

    fn fate(&mut self) -> Fate {
        match self.rng.below(if self.lossy { 20 } else { 400 }) {
            0 => Fate::Lose,
            1 => Fate::Copy,
            2 => Fate::Swap,
            _ => Fate::Pass,
        }
    }

    fn time(&mut self, quiet: bool) -> Event {
        let ms = match self.rng.below(if quiet { 10 } else { 4 }) {
            0..3 => 1 + self.rng.below(30),
            3 => 100 + self.rng.below(900),
            4..7 => 1000 + self.rng.below(4000),
            _ => 5000 + self.rng.below(25_000),
        };
        if self.rng.one_in(8) { Event::Skip { ms } } else { Event::Advance { ms } }
    }

    fn traffic(&mut self, world: &World) -> Event {
        let in_use = world.hosts.in_use();
        let fresh = in_use.is_empty() || self.rng.one_in(3);
        let [client, port, slot] = if fresh {
            let port = if self.rng.one_in(6) { self.rng.below(10) } else { self.rng.below(3) };
            [self.rng.below(CLIENTS), port, self.rng.pick(&self.slots)]
        } else {
            self.rng.pick(&in_use)
        };
        let size = if self.rng.one_in(4) { 1400 } else { 40 + self.rng.below(400) };
        let count = if self.rng.one_in(5) { 2 + self.rng.below(12) } else { 1 + self.rng.below(2) };
        match self.rng.below(if fresh { 6 } else { 24 }) {
            0..6 if fresh => Event::Connect { client, port, slot, size, count },
            0..4 => Event::Close { client, port, slot },
            4 => Event::Reset { client, port, slot },
            5 if self.rng.one_in(4) => Event::Stray { client, port, slot, flags: self.rng.below(64) },
            6..9 => Event::Push { server: self.rng.below(SERVERS), nth: self.rng.below(16), size, count },
            9 => Event::Shut { server: self.rng.below(SERVERS), nth: self.rng.below(16) },
            10 if self.rng.one_in(3) => {
                Event::Flood { client, slot, first: self.rng.below(100), count: 1 + self.rng.below(8) }
            }
            _ => Event::Send { client, port, slot, size, count },
        }
    }

    fn change(&mut self, world: &World) -> Event {
        let slot = self.rng.pick(&self.slots);
        let world_lacks = !world.has_service(slot);
        let server = self.rng.below(SERVERS);
        let (method, upper) = (self.method(), if self.rng.one_in(5) { 1 + self.rng.below(6) } else { 0 });
        let weight = if self.rng.one_in(4) { 0 } else { 1 + self.rng.below(4) };
        match self.rng.below(20) {
            _ if world_lacks => Event::AddService { slot, policy: self.policy(), persist: self.persist() },
            0..7 => Event::AddDest { slot, server, method, weight, upper },
            7..10 => Event::RemoveDest { slot, server },
            10..14 => Event::EditDest { slot, server, method, weight, upper },
            14 => Event::RemoveService { slot },
            15..18 => Event::EditService { slot, policy: self.policy(), persist: self.persist() },
            18 => Event::Renew { slot },
            _ => Event::Reload {},
        }
    }

    fn rare(&mut self) -> Event {
        let (server, on) = (self.rng.below(SERVERS), u32::from(self.rng.one_in(3)));
        let side = self.rng.pick(Side::ALL);
        match self.rng.below(16) {
            0 => self.options(),
            1 => self.timeouts(),
            2 => Event::Mtu { side, bytes: self.rng.pick(&[1280, 1400, 1500, 1500]) },
            3 => Event::Zero {},
            4..6 => Event::Remac { server, announce: on },
            6..8 => Event::Mute { server, on },
            8 => Event::Strangers { side, first: self.rng.below(50), count: 1 + self.rng.below(6) },
            9..11 => {
                let trap = if on == 0 { Trap::None } else { self.rng.pick(Trap::ALL) };
                Event::Scheduler { trap }
            }
            11 => Event::CacheLimit { flows: self.rng.pick(&[0, 6, 24, 400]) },
            12..14 => {
                let fault = if on == 0 { Fault::None } else { self.rng.pick(Fault::ALL) };
                Event::CacheFault { fault }
            }
            14 => Event::CacheForget {},
            _ => Event::LinksMoved {},
        }
    }

    fn options(&mut self) -> Event {
        Event::Options {
            nodest: self.rng.below(2),
            quiescent: self.rng.below(2),
            reuse: self.rng.pick(&[0, 1, 1, 1, 2, 3]),
            drop_entry: self.rng.pick(&[0, 0, 3]),
            secure: self.rng.pick(&[0, 0, 0, 3]),
            compat: self.rng.pick(&[0, 0, 1]),
        }
    }

    fn timeouts(&mut self) -> Event {
        Event::Timeouts {
            tcp: self.rng.pick(&[20, 120, 900]),
            fin: self.rng.pick(&[10, 120]),
            udp: self.rng.pick(&[5, 60, 300]),
        }
    }

    fn policy(&mut self) -> Policy {
        self.rng.pick(Policy::ALL)
    }

    fn persist(&mut self) -> u32 {
        self.rng.pick(&[0, 0, 0, 20, 60])
    }

    fn method(&mut self) -> Method {
        self.rng.pick(&self.methods)
    }
}
