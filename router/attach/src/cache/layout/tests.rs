use super::*;
use crate::btf::Structs;
use crate::program::OBJECT;

fn addr(text: &str) -> Address {
    text.parse::<std::net::IpAddr>().unwrap().into()
}

#[test]
fn keys_and_values_lie_as_the_programs_read_them() {
    let of =
        FlowKey { protocol: 6, source: (addr("10.0.0.2"), 0x1234), destination: (addr("10.0.0.100"), 80) };
    let want = [&[10, 0, 0, 2, 10, 0, 0, 100, 0x12, 0x34, 0, 80][..], &6_u32.to_ne_bytes()].concat();
    assert_eq!(key(&of), Key::V4(want.try_into().unwrap()));
    let entry = Entry {
        next_hop: 0x0007_0003,
        destination: 5,
        generation: 6,
        seen: 7,
        is_shut: true,
        gate: 8,
        ticket: 9,
        act: Act::NewDestination(addr("192.168.10.11"), 8080),
        addr: addr("192.168.10.11"),
    };
    let words = [0x0007_0003_u32, 5, 6, 7, 9, 8, 9 << 16, 7].map(u32::to_ne_bytes).concat();
    let want = [&words[..], &[0x1f, 0x90, 1, 0, 192, 168, 10, 11]].concat();
    assert_eq!(entry.value4()[..], want);
    assert_eq!((seen(&entry.value4()), ticket(&entry.value4())), (7, 9));
    let act = Act::Tunnel { source: addr("::1"), destination: addr("::2") };
    assert_eq!(Entry { act, ..entry }.value6()[32..36], [0, 0, 5, 0]);
}

#[test]
fn an_event_is_read_as_the_programs_write_it() {
    let mut bytes = Vec::from(9_u64.to_ne_bytes());
    bytes.extend(addr("2001:db8::2").octets());
    bytes.extend(addr("2001:db8::100").octets());
    bytes.extend([0x12, 0x34, 0, 80, 6, 6, 0x12, 2]);
    let key = FlowKey {
        protocol: 6,
        source: (addr("2001:db8::2"), 0x1234),
        destination: (addr("2001:db8::100"), 80),
    };
    assert_eq!(Event::read(&bytes), Some(Event { at: 9, key, tcp_flags: 0x12, is_reply: true }));
    assert_eq!(Event::read(&bytes[..47]), None);
}

#[test]
fn a_tick_ends_before_the_next_one_and_never_after_now() {
    let now = (5_u64 << 40) + 12_345;
    for (ticks_ago, case) in [(0, "now"), (1, "the last one"), (1000, "17 s ago")] {
        let then = now - (ticks_ago << TICK_SHIFT);
        let end = end_of_tick(tick(then), now);
        assert!(end <= now && end >= then && end - then < 1 << TICK_SHIFT, "{case}: {then} {end} {now}");
    }
    assert_eq!(end_of_tick(tick(now).wrapping_add(1), now), now, "a clock that is ahead");
}

/// What the compiled programs say of their structures.
fn structs() -> Structs {
    Structs::of(OBJECT)
}

const FLOWS_H: &str = include_str!("../../../bpf/flows.h");
const FORWARD_H: &str = include_str!("../../../bpf/forward.h");

#[test]
fn keys_lie_where_the_compiled_programs_have_them() {
    let structs = structs();
    let ends = |a: &str, b: &str| FlowKey {
        protocol: 17,
        source: (addr(a), 0x1234),
        destination: (addr(b), 0x5678),
    };
    let v4 = match key(&ends("10.0.0.2", "10.0.0.100")) {
        Key::V4(key) => key.to_vec(),
        Key::V6(_) => unreachable!("IPv4"),
    };
    let v6 = match key(&ends("2001:db8::2", "2001:db8::100")) {
        Key::V6(key) => key.to_vec(),
        Key::V4(_) => unreachable!("IPv6"),
    };
    let ports = [("source_port", vec![0x12, 0x34]), ("destination_port", vec![0x56, 0x78])];
    for (name, bytes, [source, destination]) in [
        ("key4", v4, [addr("10.0.0.2"), addr("10.0.0.100")].map(|it| it.v4_octets().to_vec())),
        ("key6", v6, [addr("2001:db8::2"), addr("2001:db8::100")].map(|it| it.octets().to_vec())),
    ] {
        let addresses = [("source", source), ("destination", destination)];
        let protocol = [("protocol", 17_u32.to_ne_bytes().to_vec())];
        structs.check(name, &bytes, addresses.into_iter().chain(ports.clone()).chain(protocol));
        assert_eq!(flow_key(&bytes).protocol, 17);
    }
}

#[test]
fn values_lie_where_the_compiled_programs_have_them() {
    let structs = structs();
    let word = |word: u32| word.to_ne_bytes().to_vec();
    let entry = Entry {
        next_hop: 0x0102_0304,
        destination: 0x1112_1314,
        generation: 0x2122_2324,
        seen: 0x3132_3334,
        is_shut: true,
        gate: 0x4142_4344,
        ticket: 0x5152,
        act: Act::NewDestination(addr("10.1.2.3"), 0x6162),
        addr: addr("10.1.2.3"),
    };
    let flow = |act: u8| {
        [
            ("next_hop", word(0x0102_0304)),
            ("destination", word(0x1112_1314)),
            ("generation", word(0x2122_2324)),
            ("seen", word(0x3132_3334)),
            ("marks", word(WATCH | SHUT)),
            ("gate", word(0x4142_4344)),
            ("ticket", word(0x5152_0000)),
            ("shut_at", word(0x3132_3334)),
            ("port", vec![0x61, 0x62]),
            ("act", vec![act]),
            ("unused", vec![0]),
        ]
    };
    let v4 = entry.value4();
    let at = structs.offset("flow4", "addr");
    assert_eq!(structs.offset("flow4", "flow"), 0);
    structs.check("flow", &v4[..at], flow(NEW_DESTINATION));
    assert_eq!((v4.len(), &v4[at..]), (structs.size("flow4"), &[10, 1, 2, 3][..]));
    let v6_addr = addr("2001:db8::3");
    let v6 = Entry { act: Act::NewSource(v6_addr, 0x6162), addr: v6_addr, ..entry }.value6();
    let at = structs.offset("flow6", "addr");
    structs.check("flow", &v6[..at], flow(NEW_SOURCE));
    assert_eq!((v6.len(), &v6[at..]), (structs.size("flow6"), &v6_addr.octets()[..]));
    // What is read from values that the programs changed.
    let mut changed = v4;
    let mut set = |member: &str, value: u32| {
        let at = structs.offset("flow", member);
        changed[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    };
    set("seen", 7);
    set("marks", PASSED | FINISHED);
    set("ticket", 9 << 16 | 3);
    assert_eq!((seen(&changed), ticket(&changed)), (7, 9));
    assert_eq!(progress(&changed), Progress { has_passed: true, is_shut: false, ticket: 9 });
    let found = Found::read(&changed);
    assert!(found.is_finished && !found.is_reset && !found.is_watched);
    assert_eq!((found.act, found.addr, found.port), (NEW_DESTINATION, addr("10.1.2.3"), 0x6162));
    let shut = shut(changed, 0x7172_7374);
    let read = |member: &str| word_at(&shut, structs.offset("flow", member));
    assert_eq!(read("marks"), PASSED | FINISHED | WATCH | SHUT);
    assert_eq!((read("ticket"), read("shut_at")), (10 << 16, 0x7172_7374));
}

#[test]
fn next_hops_and_counters_lie_where_the_compiled_programs_have_them() {
    let structs = structs();
    let word = |word: u32| word.to_ne_bytes().to_vec();
    let entry = NextHopEntry {
        link: 0x0102_0304,
        generation: 0x1112,
        mtu: 1500,
        seen: 0x2122_2324,
        to: MacAddr([1, 2, 3, 4, 5, 6]),
        from: MacAddr([7, 8, 9, 10, 11, 12]),
        tunnel: Some((addr("2001:db8::1"), addr("2001:db8::2"))),
        to_peer: true,
    };
    let members = [
        ("link", word(0x0102_0304)),
        ("generation", word(0x1112)),
        ("mtu", word(1500)),
        ("seen", word(0x2122_2324)),
        ("to", vec![1, 2, 3, 4, 5, 6]),
        ("from", vec![7, 8, 9, 10, 11, 12]),
        ("outer_source", addr("2001:db8::1").octets().to_vec()),
        ("outer_destination", addr("2001:db8::2").octets().to_vec()),
        ("to_peer", word(1)),
    ];
    structs.check("next_hop", &entry.bytes(), members);
    assert_eq!(seen(&entry.bytes()), 0x2122_2324, "at the same place as in a flow");
    let long = |long: u64| long.to_ne_bytes().to_vec();
    let counters: Vec<u8> = [1, 2, 3, 4].into_iter().flat_map(long).collect();
    let names = ["packets_in", "bytes_in", "packets_out", "bytes_out"];
    structs.check("tally", &counters, names.into_iter().zip([1, 2, 3, 4].map(long)));
    assert_eq!(tally(&counters.try_into().unwrap()), [1, 2, 3, 4]);
    let misses: Vec<u8> = [5, 6].into_iter().flat_map(long).collect();
    structs.check("census", &misses, [("unreported", long(5)), ("dropped", long(6))]);
    assert_eq!(census(&misses.try_into().unwrap()), [5, 6]);
    assert_eq!(structs.size("gate"), size_of::<u64>());
}

/// The number that a header gives a name, as `#define` or as an enumerator.
fn number_of(header: &str, name: &str) -> u64 {
    let numbers = header.lines().filter_map(|line| {
        let line = line.trim();
        let defined = line.strip_prefix("#define ").map(|rest| rest.split_whitespace().collect::<Vec<_>>());
        match defined {
            Some(words) if words.len() > 1 && words[0] == name => Some(words[1].to_owned()),
            Some(_) => None,
            None => line.strip_prefix(name)?.strip_prefix(" = ")?.split([',', ' ']).next().map(str::to_owned),
        }
    });
    let found: Vec<String> = numbers.collect();
    assert_eq!(found.len(), 1, "{name} stands there once: {found:?}");
    let text = &found[0];
    text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16)).unwrap()
}

#[test]
fn numbers_are_those_of_the_programs() {
    for (name, want) in
        [("WATCH", WATCH), ("FINISHED", FINISHED), ("RESET", RESET), ("SHUT", SHUT), ("PASSED", PASSED)]
    {
        assert_eq!(number_of(FLOWS_H, name), u64::from(want), "{name}");
    }
    assert_eq!(number_of(FLOWS_H, "TICK_SHIFT"), u64::from(TICK_SHIFT));
    assert_eq!(number_of(FLOWS_H, "WHOLE"), u64::from(WHOLE));
    assert_eq!(number_of(FORWARD_H, "GATES"), u64::from(GATES));
    // The first one has a number, and the others follow.
    assert_eq!(number_of(FLOWS_H, "NEW_DESTINATION"), u64::from(NEW_DESTINATION));
    let acts = FLOWS_H.split_once("enum act {").and_then(|(_, rest)| rest.split_once("};")).unwrap().0;
    let names: Vec<&str> = acts
        .lines()
        .filter_map(|line| line.trim().split([' ', ',']).next())
        .filter(|it| !it.is_empty())
        .collect();
    assert_eq!(names, ["NEW_DESTINATION", "NEW_SOURCE", "AS_IS", "IN_IPV4", "IN_IPV6"]);
    assert_eq!([NEW_DESTINATION, NEW_SOURCE, AS_IS, IN_IPV4, IN_IPV6], [1, 2, 3, 4, 5]);
}

/// No map has events as its values, so the compiled programs say nothing of them.
#[test]
fn events_are_declared_as_they_are_read() {
    let declared =
        FLOWS_H.split_once("struct event {").and_then(|(_, rest)| rest.split_once("};")).unwrap().0;
    let members: Vec<&str> = declared
        .lines()
        .filter_map(|line| line.split(';').next())
        .map(str::trim)
        .filter(|it| !it.is_empty())
        .collect();
    let want = [
        "__u64 at",
        "__be32 source[4]",
        "__be32 destination[4]",
        "__be16 source_port",
        "__be16 destination_port",
        "__u8 protocol",
        "__u8 version",
        "__u8 flags",
        "__u8 act",
    ];
    assert_eq!(members, want, "8 + 16 + 16 + 2 + 2 + 4 bytes, none between them: `Event::read`");
}
