//! Whatever comes in: no panic, no loop, an output that passes the check.

mod common;

use std::time::Instant;

use common::{Memory, import, import_of, judge};
use proptest::prelude::*;
use uvs_import::{Wish, ipvsadm, keepalived};

/// Pieces of the language, which random bytes would never hit upon.
const PIECES: &str = "virtual_server virtual_server_group real_server group fwmark 192.0.2.1 192.0.2.7-9 10.0.0.0/30 \
    2001:db8::1 80 0 65536 -1 TCP UDP protocol lvs_sched lb_algo rr sh mh sh-port lvs_method lb_kind NAT DR TUN type gue \
    gre port csum TCP_CHECK HTTP_GET SSL_GET MISC_CHECK DNS_CHECK UDP_CHECK PING_CHECK SMTP_CHECK FILE_CHECK url path / \
    status_code 200-204 regex \"(a\" [z-a] misc_path \"/bin/true a\" persistence_timeout 360 persistence_granularity \
    255.255.0.255 quorum hysteresis sorry_server 127.0.0.1 weight alpha inhibit_on_failure delay_loop 0.000001 99999999 \
    retry connect_timeout connect_ip connect_port uthreshold lthreshold virtualhost a.example { } { } \n \n \n \n \" ' \\ \
    # ! $A= $A ${A} ${_RANDOM 1 2} ${_HASH} @lb1 @^lb1 ~SEQ(i,1,3) ~SEQ(i,3,1,0) ~LST(j,a,b) $i ${j} include /etc/*.conf \
    a.conf ops payload 0a1b require_reply xx track_file file name type query \u{e9} \r";

fn piece() -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = PIECES.split(' ').filter(|piece| !piece.is_empty()).collect();
    prop_oneof![20 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
}

fn pieces(max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..max).prop_map(|pieces| pieces.join(" "))
}

/// A virtual server that is whole, with anything in it.
fn server() -> impl Strategy<Value = String> {
    (pieces(30), pieces(30), 0_u8..4, 0_u8..4).prop_map(|(outer, checks, vip, rip)| {
        format!(
            "virtual_server 192.0.2.{vip} 80 {{\nprotocol TCP\nlvs_sched rr\n{outer}\n\
             real_server 198.51.100.{rip} 80 {{\nHTTP_GET {{\nurl {{\n{checks}\n}}\n}}\n}}\n}}\n"
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_ends_in_what_passes_the_check(text in pieces(200)) {
        import(&text);
    }

    #[test]
    fn servers_with_anything_in_them_pass_the_check(servers in prop::collection::vec(server(), 1..4)) {
        import(&servers.concat());
    }

    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        import(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_rules_end_in_what_passes_the_check(lines in prop::collection::vec(
        prop::sample::select(&[
            "-A -t 192.0.2.1:80 -s wlc",
            "-A -u 192.0.2.1:53 -s rr -p 300 -M 255.255.255.0",
            "-A -f 7 -s sh -b sh-port",
            "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 3",
            "-a -t 192.0.2.1:80 -r 10.0.0.2:80 -g",
            "-a -f 7 -r 10.0.0.1 -i",
            "-a -t 192.0.2.1:80 -r 127.0.0.1:80 -m",
            "-D -t 192.0.2.1:80",
            "-C",
            "-E -t 192.0.2.1:80 -s rr",
            "-d -t 192.0.2.1:80 -r 10.0.0.1:80",
            "-e -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 0",
            "ipvsadm -Ln",
            "nonsense",
            "-A -t 192.0.2.2:0 -s rr",
            "-A -t [2001:db8::1]:80 -s nq",
            "-a -t [2001:db8::1]:80 -r [2001:db8::2]:80 -m",
            "# a comment",
            "--set 1 2 3",
            "-A -t 0.0.0.0:80",
            "-A -t 192.0.2.9:80 -s nobody",
        ][..]), 0..30)
    ) {
        ipvsadm(&lines.join("\n"), "rules", &Wish::default()).judged(&mut judge).unwrap();
    }
}

#[test]
fn includes_that_go_in_a_circle_end() {
    let done = import_of(vec![
        ("/etc/a.conf", "include b.conf\ninclude /etc/*.conf\n".to_owned()),
        ("/etc/b.conf", "include a.conf\ninclude b.conf\n".to_owned()),
    ]);
    assert!(done.remarks.iter().any(|remark| remark.text.contains("includes itself")), "{:#?}", done.remarks);
}

#[test]
fn what_expands_without_end_is_bounded() {
    let nested = "~SEQ(a, 200) ~SEQ(b, 200) ~SEQ(c, 200) virtual_server 10.${a}.${b}.${c} 80 {\n";
    let circle = "$A=${B}${B}\n$B=${A}${A}\n${A}\n";
    let doubled = (0..40)
        .fold("$A0=xxxxxxxx\n".to_owned(), |text, n| text + &format!("$A{}=${{A{n}}}${{A{n}}}\n", n + 1));
    let deep = "a {\n".repeat(10_000) + &"}\n".repeat(10_000);
    let open = "a {\n".repeat(100_000);
    for text in [nested.to_owned(), circle.to_owned(), doubled + "${A40}\n", deep, open] {
        let done = import(&text);
        assert!(!done.remarks.is_empty());
    }
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    let path = std::path::Path::new("/etc/none.conf");
    let none = keepalived(path, "lb1", &Memory(Vec::new()), &Wish::default());
    assert_eq!(none.unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_long_file_takes_as_long_as_it_is() {
    let server = |n: u32| {
        let (high, low) = (n / 250, n % 250 + 1);
        format!(
            "virtual_server 10.{high}.0.{low} 80 {{\n    protocol TCP\n    lvs_sched rr\n    lvs_method NAT\n    \
             real_server 10.100.{high}.{low} 80 {{\n        TCP_CHECK {{\n            connect_timeout 3\n        }}\n    \
             }}\n}}\n"
        )
    };
    let text: String = (0..2000).map(server).collect();
    assert_eq!(text.lines().count(), 20_000);
    let started = Instant::now();
    let files = Memory(vec![("/etc/a.conf", text)]);
    let imported = keepalived(std::path::Path::new("/etc/a.conf"), "lb1", &files, &Wish::default()).unwrap();
    let done = imported.judged(&mut |_| Vec::new()).unwrap();
    assert_eq!((done.services, done.checks), (2000, 1));
    println!("20000 lines in {:?}", started.elapsed());
    // Without optimisation, on a busy machine, and far less than what is quadratic takes.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
