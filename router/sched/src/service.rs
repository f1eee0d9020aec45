//! Destinations, clients and chance for tests, benches and simulations.

use core::net::{IpAddr, Ipv4Addr};

use uvs_director::scheduler::{Candidate, Flow, Load};
use uvs_director::spec::Protocol;
use uvs_director::splitmix64;

/// Chance; a seed repeats a run.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        splitmix64(&mut self.0)
    }

    /// Less than `n`, which is not 0.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        u32::try_from(self.next() % u64::from(n)).expect("a remainder is less than its divisor")
    }

    /// At least 0 and less than 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Destination `id`, 10.0.x.y:80, without load.
pub(crate) fn destination(id: u32, weight: u32) -> Candidate {
    let [.., a, b] = (id + 1).to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(10, (id >> 16).to_be_bytes()[3], a, b));
    Candidate { id, weight, address, port: 80, load: Load::default() }
}

/// A TCP connection of client `n` to the service; a client keeps its address and has a port for each connection.
pub(crate) fn flow(client: u32, port: u16) -> Flow {
    Flow {
        protocol: Protocol::Tcp,
        // 100.64.0.0/10, then on: more clients than anybody simulates.
        client: IpAddr::V4(Ipv4Addr::from_bits(0x6440_0000u32.wrapping_add(client))),
        client_port: port,
        virtual_addr: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        virtual_port: 443,
        mark: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_repeats_and_stays_within_bounds() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..1000).map(|_| random.unit()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let all = draw(3);
        assert!(all.iter().all(|x| (0.0..1.0).contains(x)));
        let mean = all.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }

    #[test]
    fn destinations_and_clients_are_distinct() {
        let addresses: std::collections::BTreeSet<_> =
            (0..70_000).map(|id| destination(id, 1).address).collect();
        assert_eq!(addresses.len(), 70_000);
        assert_ne!(flow(1, 1).client, flow(2, 1).client);
    }
}
