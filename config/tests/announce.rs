//! `[announce]`: what is read, and what cannot be announced.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::net::IpAddr;

use uvs_config::{Announce, AnnounceWhile, Config};
use uvs_director::Duration;

const HEAD: &str = "[[interface]]
name = 'uvs0'
device = 'tap'
addresses = ['192.0.2.1/24', '192.0.2.9/32']
[[interface]]
name = 'uvs1'
device = 'tun'
addresses = ['10.0.0.2/30', '10.9.9.9/32', '2001:db8::9/128']
[interface.host]
addresses = ['10.0.0.1/30']
[[route]]
to = '198.51.100.0/24'
via = '10.0.0.1'
[[route]]
to = '2001:db8:1::/64'
interface = 'uvs1'
";

/// A service on a VIP, by a method.
fn service(vip: &str, forward: &str) -> String {
    let (address, server) = match vip.contains(':') {
        true => (format!("[{vip}]:80"), "[2001:db8:1::5]:80"),
        false => (format!("{vip}:80"), "198.51.100.5:80"),
    };
    let server = if forward == "dr" { "192.0.2.21" } else { server };
    format!(
        "[[service]]\nprotocol = 'tcp'\naddress = '{address}'\nforward = '{forward}'\n\
         destination = [{{ address = '{server}' }}]\n"
    )
}

fn text(announce: &str, services: &str) -> String {
    format!("{HEAD}[announce]\n{announce}\n{services}")
}

fn read(announce: &str, services: &str) -> Config {
    Config::parse(&text(announce, services), "edge.toml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(announce: &str, services: &str) -> String {
    let said = Config::parse(&text(announce, services), "edge.toml");
    said.map(drop).expect_err(announce).to_string()
}

#[test]
fn what_is_not_said_has_its_default() {
    let one = service("192.0.2.10", "dr");
    assert_eq!(read("", &one).announce, Some(Announce::default()));
    let all = "vips = ['192.0.2.10']\nwhile = 'all'\nprotocol = 200\ntable = 100\nmetric = 7\nhold = 0\nlinger = '1m'\n\
               nat = true";
    let want = Announce {
        vips: vec!["192.0.2.10".parse().unwrap()],
        keeps: AnnounceWhile::All,
        protocol: 200,
        table: 100,
        metric: 7,
        hold: Duration::ZERO,
        linger: Duration::from_secs(60),
    };
    assert_eq!(read(all, &one).announce, Some(want));
    let silent = Config::parse(&format!("{HEAD}{one}"), "edge.toml").unwrap();
    assert_eq!(silent.announce, None);
}

#[test]
fn a_vip_comes_in_by_the_interface_that_has_it() {
    let config = read("", &service("192.0.2.10", "dr"));
    let way = |vip: &str| {
        let (interface, via) = config.entrance(vip.parse().unwrap())?;
        Some((interface.spec.name.clone(), via))
    };
    let tap = Some(("uvs0".to_owned(), Some("192.0.2.1".parse::<IpAddr>().unwrap())));
    let tun = Some(("uvs1".to_owned(), None));
    for (vip, want) in [
        ("192.0.2.10", tap.clone()),
        ("192.0.2.9", tap),
        ("10.9.9.9", tun.clone()),
        ("2001:db8::9", tun),
        ("203.0.113.1", None),
    ] {
        assert_eq!(way(vip), want, "{vip}");
    }
}

#[test]
fn what_cannot_be_announced_is_told_with_what_to_do() {
    let nat = service("10.9.9.9", "nat");
    let said = refused("", &nat);
    for part in [
        "service tcp 10.9.9.9:80 is announced and reaches destination 198.51.100.5:80 by NAT",
        "use forward = \"dr\" or \"tun\"; or write nat = true in [announce]",
    ] {
        assert!(said.contains(part), "{said}");
    }
    read("nat = true", &nat);
    read("vips = ['192.0.2.10']", &(nat.clone() + &service("192.0.2.10", "dr")));

    let one = service("192.0.2.10", "dr");
    let cases = [
        ("vips = ['192.0.2.11']", one.as_str(), "VIP 192.0.2.11 is that of no service"),
        ("vips = ['www']", &one, "VIP \"www\" is not an IP address"),
        ("vips = []", &one, "vips is empty: nothing would be announced"),
        ("while = 'never'", &one, "unknown while \"never\""),
        ("protocol = 4", &one, "protocol of routes 4 is out of range"),
        ("protocol = 256", &one, "use 5 to 255, which no daemon on the host has"),
        ("table = 255", &one, "table 255 is the kernel's table local"),
        ("metric = 0", &one, "metric of routes 0 is out of range"),
        ("hold = '2h'", &one, "hold \"2h\" is out of range"),
        ("linger = '2m'", &one, "use \"0s\" to \"1m\", before the director ends"),
        ("vip = 'x'", &one, "unknown key \"vip\""),
    ];
    for (announce, services, part) in cases {
        let said = refused(announce, services);
        assert!(said.contains(part), "{announce}: {said}");
    }
}

#[test]
fn a_vip_needs_a_way_that_is_its_own() {
    let tunnelled = service("10.9.9.9", "tun").replace("198.51.100.5:80", "198.51.100.5");
    let announced = text("", &tunnelled);
    // The route that announces it is the one into the device: nothing is missing.
    let config = Config::parse(&announced, "edge.toml").unwrap_or_else(|problems| panic!("{problems}"));
    assert!(
        config.warnings.iter().all(|it| !it.to_string().contains("host.routes")),
        "{:?}",
        config.warnings
    );
    let routed = announced
        .replace("addresses = ['10.0.0.1/30']\n", "addresses = ['10.0.0.1/30']\nroutes = ['10.9.9.9/32']\n");
    let said = Config::parse(&routed, "edge.toml").map(drop).unwrap_err().to_string();
    assert!(said.contains("VIP 10.9.9.9 is announced, and is in host.routes of interface uvs1"), "{said}");

    let bare = text("", &service("192.0.2.9", "dr")).replace("'192.0.2.1/24', ", "");
    let said = Config::parse(&bare, "edge.toml").map(drop).unwrap_err().to_string();
    assert!(said.contains("interface uvs0 has no IPv4 address that it is reached by"), "{said}");

    let v6 = text(
        "",
        &service("192.0.2.10", "dr")
            .replace("192.0.2.10:80", "[fd00::10]:80")
            .replace("192.0.2.21", "fd00::21"),
    );
    let said = Config::parse(&v6.replace("'192.0.2.1/24', ", "'192.0.2.1/24', 'fd00::1/64', "), "edge.toml");
    let said = said.map(drop).unwrap_err().to_string();
    assert!(
        said.contains("VIP fd00::10 is announced, and interface uvs0 is a TAP: there only IPv4 VIPs can be"),
        "{said}"
    );

    let marks = "[[service]]\nmark = 7\nforward = 'dr'\ndestination = [{ address = '192.0.2.21' }]\n\
                 [[mark]]\nmark = 7\nprotocol = 'tcp'\n";
    let warnings = read("", marks).warnings;
    assert!(
        warnings.iter().any(|it| it.to_string().contains("no service has a VIP that could be announced"))
    );
}
