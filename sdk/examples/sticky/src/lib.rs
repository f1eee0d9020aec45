//! The tutorial of the SDKs: fewest connections per weight, sticky for 30 s by client.
//!
//! A client that came within the last 30 s goes where it went then, if that destination is still there and eligible.
//! Any other goes where the fewest connections are for the weight.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use uvs_sdk::{Affinity, Destination, Destinations, Entry, Flow, Host, Scheduler, Tournament};

/// Fewest connections per weight, sticky by client.
#[derive(Debug)]
pub struct Sticky {
    clients: Affinity,
    fewest: Tournament,
}

impl Scheduler for Sticky {
    fn init(_service: &str, options: &str) -> Result<Self, String> {
        if !options.is_empty() {
            return Err("sticky takes no options".into());
        }
        Ok(Self { clients: Affinity::new(10_000, 30_000), fewest: Tournament::default() })
    }

    fn update(&mut self, table: &Destinations) {
        self.fewest.rebuild(table, rule);
    }

    fn schedule(&mut self, flow: &Flow, table: &Destinations, host: &mut dyn Host) -> Option<u32> {
        self.fewest.refresh(table, rule);
        self.clients.tick(host);
        let known = self.clients.get(flow.client).and_then(|id| table.position_of(id));
        let position = known.filter(|&known| table.eligible(known)).or_else(|| self.fewest.winner())?;
        self.clients.put(flow.client, table.get(position)?.id);
        Some(position)
    }

    fn save(&self) -> Vec<u8> {
        self.clients.save()
    }

    fn restore(&mut self, state: &[u8]) -> bool {
        self.clients.restore(state)
    }
}

/// The least load for the weight wins; who is not eligible does not take part.
fn rule(destination: &Destination) -> Option<Entry> {
    let Destination { active, inactive, weight, .. } = *destination;
    destination.is_eligible().then_some(Entry { load: active + inactive, weight })
}

uvs_sdk::export!(Sticky);

#[cfg(test)]
mod tests {
    use uvs_sdk::testing::{Lab, line};
    use uvs_sdk::{Flow, Protocol};

    use super::Sticky;

    fn from(client: u8) -> Flow {
        Flow {
            protocol: Protocol::Tcp,
            client: std::net::Ipv4Addr::new(192, 0, 2, client).into(),
            client_port: 20_000,
            virtual_addr: std::net::Ipv4Addr::new(10, 0, 0, 100).into(),
            virtual_port: 80,
            mark: 0,
        }
    }

    #[test]
    fn new_clients_spread_by_weight() {
        let mut lab = Lab::<Sticky>::new("");
        lab.add(1, 1).add(2, 2);
        assert_eq!(line(&lab.connect_all(6)), "2 1 2 2 1 2");
        lab.load(2, 3, 7, true);
        assert_eq!(line(&lab.connect_all(4)), "1 1 1 2", "inactive connections count as well");
    }

    #[test]
    fn a_client_stays_for_thirty_seconds_after_each_visit() {
        let mut lab = Lab::<Sticky>::new("");
        lab.add(1, 1).add(2, 1);
        assert_eq!(lab.connect_by(&from(7)), Some(2));
        lab.load(2, 900, 0, true);
        for visit in 1..4 {
            lab.host.now_ms = visit * 29_999;
            assert_eq!(lab.connect_by(&from(7)), Some(2), "visit {visit}");
        }
        lab.host.now_ms += 30_000;
        assert_eq!(lab.connect_by(&from(7)), Some(1), "30 s are over");
    }

    #[test]
    fn a_client_moves_when_its_destination_cannot_take_it() {
        let mut lab = Lab::<Sticky>::new("");
        lab.add(1, 1).add(2, 1).add(3, 1);
        assert_eq!(lab.connect_by(&from(7)), Some(3));
        lab.load(3, 1, 0, false).load(1, 5, 0, true);
        assert_eq!(lab.connect_by(&from(7)), Some(2), "over its threshold");
        lab.edit(2, 0).load(3, 9, 0, true);
        assert_eq!(lab.connect_by(&from(7)), Some(1), "quiesced");
        lab.remove(1);
        assert_eq!(lab.connect_by(&from(7)), Some(3), "gone");
        lab.edit(3, 0);
        assert_eq!(lab.connect_by(&from(7)), None, "nobody can");
        lab.edit(3, 1);
        assert_eq!(lab.connect_by(&from(7)), Some(3));
    }

    #[test]
    fn clients_stay_over_a_reload() {
        let mut lab = Lab::<Sticky>::new("");
        lab.add(1, 1).add(2, 1);
        assert_eq!(lab.connect_by(&from(7)), Some(2));
        lab.load(2, 900, 0, true);
        assert!(lab.reload());
        assert_eq!(lab.connect_by(&from(7)), Some(2));
        lab.restart();
        assert_eq!(lab.connect_by(&from(7)), Some(1), "who knows nothing looks at the load");
    }
}
