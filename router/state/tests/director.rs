//! Records of every kind, to a director that takes them, and from there to another, through bytes.

#![allow(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use common::record;
use proptest::prelude::*;
use uvs_director::record::{ConnectionId, ConnectionRecord, Record};
use uvs_director::scheduler::NativeOnly;
use uvs_director::spec::{
    Change, DestinationSpec, Family, Forwarding, Limits, Persistence, Protocol, SchedulerSpec, ServiceKey,
    ServiceSpec,
};
use uvs_director::{Director, Duration, Followed, Instant, Outbox, Refusal, Taken, Taker};
use uvs_state::{Message, Read, Stream};

const NOW: Instant = Instant::from_secs(1_000_000);

fn services() -> Vec<(ServiceKey, Vec<DestinationSpec>)> {
    let addr = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let by = |text: &str, forwarding| DestinationSpec::new(addr(text), forwarding);
    let direct = Forwarding::Direct;
    vec![
        (
            ServiceKey::new(Protocol::Tcp, addr("192.0.2.1:80")),
            vec![by("10.0.0.1:8080", Forwarding::Nat), by("10.0.0.2:8080", Forwarding::Nat)],
        ),
        (ServiceKey::new(Protocol::Udp, addr("[2001:db8::1]:53")), vec![by("[2001:db8::9]:53", direct)]),
        (ServiceKey::Mark { mark: 7, family: Family::V4 }, vec![by("10.0.0.3:0", direct)]),
    ]
}

fn director() -> Director {
    let director = Director::new(Limits::default(), 5, Arc::new(NativeOnly));
    for (key, destinations) in services() {
        let persistence = matches!(key, ServiceKey::Mark { .. }).then_some(Persistence {
            timeout: Duration::from_secs(300),
            prefix_len: 32,
            engine: None,
        });
        let spec = ServiceSpec::new(key, SchedulerSpec::named("wlc"));
        director.apply(Change::AddService(ServiceSpec { persistence, ..spec }), NOW).unwrap();
        for spec in destinations {
            director.apply(Change::AddDestination(key, spec), NOW).unwrap();
        }
    }
    director
}

/// A record of one of the services, but for every eighth. Most can be taken.
fn of_a_service() -> impl Strategy<Value = ConnectionRecord> {
    (record(), any::<prop::sample::Index>(), 0..8u8).prop_map(|(record, which, odd)| {
        if odd == 0 {
            return record;
        }
        let services = services();
        let (service, destinations) = &services[which.index(services.len())];
        let spec = destinations[which.index(destinations.len())];
        let family = service.family();
        let fit = |(addr, port): (uvs_wire::Address, u16)| {
            let is_fit = Family::of(addr.to_ip()) == family;
            let other: std::net::IpAddr = match family {
                Family::V4 => {
                    let [.., a, b, c, d] = addr.octets();
                    std::net::Ipv4Addr::new(a, b, c, d).into()
                }
                Family::V6 => std::net::Ipv6Addr::from_bits(u128::from(addr.halves().1) << 64 | 1).into(),
            };
            (if is_fit { addr } else { other.into() }, port)
        };
        let template = record.id.template;
        let protocol = if template && record.id.protocol == 0 { 0 } else { 6 + 11 * u8::from(odd > 4) };
        let announced = record.id.announced && !template && protocol == 6;
        let (client, port) = fit(record.id.client);
        let client = (client, if template || announced { 0 } else { port });
        let id = ConnectionId { protocol, client, asked_for: fit(record.id.asked_for), template, announced };
        let leads = record.leads.filter(|_| template || record.ftp.is_some());
        let ftp = record.ftp.filter(|_| {
            protocol == 6 && !template && record.forwarding == Forwarding::Nat && leads.is_some()
        });
        ConnectionRecord {
            id,
            service: *service,
            server: spec.addr,
            destination: fit(record.destination),
            hangs_on: record.hangs_on.filter(|_| !template),
            leads: leads.filter(|_| template || ftp.is_some()),
            ftp,
            ..record
        }
    })
}

/// What a director tells, through bytes.
fn told(director: &Director) -> HashMap<ConnectionId, ConnectionRecord> {
    let mut follower = director.follow(1 << 20, NOW);
    let mut bytes = Vec::new();
    while director.follow_some(&mut follower, NOW, |record| Message::from(record).encode(&mut bytes))
        != Followed::Quiet
    {}
    director.unfollow(follower);
    let mut stream = Stream::default();
    stream.feed(&bytes);
    let mut told = HashMap::new();
    while let Some(read) = stream.next() {
        match read {
            Read::Message(Message::Connection(record)) => {
                assert!(told.insert(record.id, record).is_none(), "each is told once");
            }
            other => panic!("{other:?}"),
        }
    }
    told
}

/// The record without what is a number of its teller's.
fn plain(record: &ConnectionRecord) -> ConnectionRecord {
    let mut record = record.clone();
    for group in [&mut record.hangs_on, &mut record.leads].into_iter().flatten() {
        group.number = 0;
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever a record says: it is taken or refused, what was taken is told again as it was, and it all ends.
    #[test]
    fn what_was_taken_is_told_again(records in prop::collection::vec(of_a_service(), 1..30)) {
        let (first, second) = (director(), director());
        let mut taker = Taker::new();
        for record in &records {
            let taken = first.take(&mut taker, &Record::Connection(record.clone()), NOW);
            let is_known = matches!(
                taken,
                Ok(Taken::Entered | Taken::Updated) | Err(Refusal::Invalid(_) | Refusal::NoDestination(..))
            );
            prop_assert!(is_known, "{:?}", taken);
        }
        let of_first = told(&first);
        let mut taker = Taker::new();
        for record in of_first.values() {
            let taken = second.take(&mut taker, &Record::Connection(record.clone()), NOW);
            prop_assert_eq!(taken, Ok(Taken::Entered), "{:?}", record);
        }
        let of_second = told(&second);
        prop_assert_eq!(of_first.len(), of_second.len());
        for (id, record) in &of_first {
            // Which of several that look alike to their server answers first hangs on the order.
            let got = ConnectionRecord { is_outdone: record.is_outdone, ..plain(&of_second[id]) };
            prop_assert_eq!(got, plain(record));
        }
        let (_, total) = first.explain(&uvs_director::trace::Filter::default(), None, 100, NOW);
        prop_assert_eq!(total, of_first.len());
        for id in of_first.keys() {
            prop_assert_eq!(second.take(&mut taker, &Record::Gone(*id), NOW), Ok(Taken::Removed));
            prop_assert_eq!(second.take(&mut taker, &Record::Gone(*id), NOW), Ok(Taken::Unknown));
        }
        for director in [&first, &second] {
            director.handle_timeout(NOW + Duration::from_secs(1), &mut Outbox::new());
            director.forget_connections();
            prop_assert_eq!(director.connection_count(), 0);
            for service in director.services() {
                for it in &service.destinations {
                    prop_assert_eq!((it.active, it.inactive, it.persistent), (0, 0, 0));
                }
            }
        }
    }
}
