//! What an HTTP check sends, as the server's kernel sees it.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;

/// Segments with data that the kernel has got on the one connection at that port.
fn segments(host: &Host, port: u16) -> Option<usize> {
    let ss = || {
        Command::new("ss").args(["-tinH", "state", "established", "sport", "=", &format!(":{port}")]).output()
    };
    let output = host.run(ss).unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> =
        text.split_whitespace().filter_map(|it| it.strip_prefix("data_segs_in:")).collect();
    let [count] = words[..] else { return None };
    Some(count.parse().unwrap())
}

/// The head of a request, byte by byte as it comes.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Servers that read once, and firewalls that look at one segment, are to find all of it.
#[test]
fn the_head_of_an_http_check_arrives_in_one_segment() {
    let Some(_turn) = turn() else { return };
    let hosts = hosts();
    let address = SocketAddr::from(([192, 168, 20, 11], NAT_PORT));
    let listener = hosts.servers[0].run(|| std::net::TcpListener::bind(address).unwrap()).unwrap();
    let path = format!("/{}", "long/".repeat(100));
    let config = checked("").replace("type = \"tcp\"", &format!("type = \"http\"\npath = \"{path}\""));
    let config = config.replace("timeout = \"90ms\"", "timeout = \"8s\"");
    let scene = Scene { running: Running::start(&hosts.director, &config), hosts, peers: [None, None] };
    for _ in 0..3 {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = head(&mut stream);
        assert!(head.starts_with(&format!("GET {path} HTTP/1.1\r\n")) && head.len() > 500, "{head}");
        let deadline = Instant::now() + Duration::from_secs(5);
        let count = loop {
            if let Some(count) = segments(&scene.hosts.servers[0], NAT_PORT) {
                break count;
            }
            assert!(Instant::now() < deadline, "ss tells of the connection");
        };
        assert_eq!(count, 1, "{head}");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    }
    scene.weighs(ONE, 1);
}
