//! Files of keepalived as people have them in public, imported and serving traffic: each in a lab with its addresses.
//!
//! The files are in `router/import/tests/keepalived`, where Debian's keepalived judges what is said of them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::stage::{turn, uvs};

/// Runs `lines` in a new lab that has `file` as `keepalived.conf`, and gives back what they print.
fn lab(file: &str, lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../router/import/tests/keepalived").join(file);
    fs::copy(&from, folder.path().join("keepalived.conf")).unwrap();
    let script = folder.path().join("script");
    fs::write(
        &script,
        format!("set -eu -o pipefail\nexport PATH={}:$PATH\n{COMMON}\n{lines}", bin().display()),
    )
    .unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut lab = Command::new(uvs())
        .args(["lab", "bash"])
        .arg(&script)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(90);
    let status = loop {
        if let Some(status) = lab.try_wait().unwrap() {
            break Some(status);
        }
        if Instant::now() > deadline {
            lab.kill().unwrap();
            lab.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let (out, err) = (fs::read_to_string(&out).unwrap(), fs::read_to_string(&err).unwrap());
    assert!(status.is_some_and(|status| status.success()), "{status:?}\n{out}\n{err}");
    out
}

/// The folder of the program, which lines of a lab call by its name.
fn bin() -> std::path::PathBuf {
    uvs().parent().unwrap().to_owned()
}

/// What all labs have: the import, and the director with what it made.
const COMMON: &str = r#"
import() { # import BRIDGE WORDS: the import's words on this network; remarks are no failure
  bridge=$1; shift
  uvs import keepalived keepalived.conf --bridge "$bridge" --output edge.toml "$@" || [ $? = 3 ]
  uvs check edge.toml >&2
}
direct() { # starts the director, and waits until it answers
  uvs run --config edge.toml & director=$!
  for try in $(seq 100); do uvs status > /dev/null 2>&1 && return; sleep 0.1; done
  echo "no director" >&2; return 1
}
says() { # says DESTINATION WORD: waits until `uvs status` says so
  for try in $(seq 300); do
    uvs status | grep -A 3 "^  $1 " | grep -q "$2" && return
    sleep 0.1
  done
  uvs status >&2; echo "nothing says that $1 is $2" >&2; return 1
}
"#;

/// UDP by NAT with one arm, and a program for each real server that is given its address.
#[test]
fn resolvers_of_a_public_file() {
    let Some(_turn) = turn() else { return };
    let said = lab(
        "public-dns.conf",
        r#"
machine router br0 192.168.100.254 192.168.100.100
ip link add name router1 type veth peer name eth1 netns router
ip link set dev router1 master br1 up
ip -n router link set dev eth1 up
ip -n router address add 192.168.200.1/24 dev eth1
ip netns exec router sysctl -q net.ipv4.ip_forward=1
machine client br1 192.168.200.2 192.168.200.1
for rs in 2 3; do
  machine rs$rs br0 192.168.100.$rs 192.168.100.100
  ip netns exec rs$rs dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --pid-file=$PWD/rs$rs.pid \
    --user=root --address=/example.org/192.0.2.$rs &
done
# Programs ask from the host's own address.
ip address add 192.168.100.253/24 dev br0
cat > ask <<'EOF'
#!/usr/bin/python3
import random, socket, sys
name, server = sys.argv[2:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.8)
head = random.randbytes(2) + b"\1\0\0\1\0\0\0\0\0\0"
s.sendto(head + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1", (server, 53))
print(".".join(map(str, s.recv(512)[-4:])))
EOF
chmod +x ask
sed -i "s|/usr/bin/nslookup|$PWD/ask|" keepalived.conf
import br0 --gateway 192.168.100.254
direct
says 192.168.100.2:53 'exec: up'
says 192.168.100.3:53 'exec: up'
for i in 1 2 3 4; do ip netns exec client ./ask -type=a example.org 192.168.100.100; done | sort | uniq -c
kill "$(cat rs3.pid)"
says 192.168.100.3:53 'exec: down'
for i in 1 2 3 4; do ip netns exec client ./ask -type=a example.org 192.168.100.100; done | sort | uniq -c
"#,
    );
    let answers: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(answers, [["2", "192.0.2.2"], ["2", "192.0.2.3"], ["4", "192.0.2.2"]], "{said}");
}

/// DR with a scheduler that there is not, a mask that nobody reads, and `SSL_GET`.
#[test]
fn api_servers_of_a_public_file() {
    let Some(_turn) = turn() else { return };
    let said = lab(
        "public-kubernetes.conf",
        r#"
machine client br0 10.4.7.50 10.4.7.1
cat > api <<'EOF'
#!/usr/bin/python3
import http.server, ssl, sys
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode() + b"\n")
    def log_message(self, *ignored):
        pass
server = http.server.ThreadingHTTPServer(("0.0.0.0", 6443), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
EOF
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=api -keyout key.pem -out cert.pem 2> /dev/null
for rs in 11 12; do
  machine rs$rs br0 10.4.7.$rs 10.4.7.1
  ip netns exec rs$rs sysctl -q net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  ip -n rs$rs address add 10.4.7.10/32 dev lo
  ip netns exec rs$rs python3 api rs$rs & echo $! > rs$rs.pid
done
# As it is, a server that dies is found after 15 s.
sed -i 's/delay_loop 6/delay_loop 1/; s/delay_before_retry 3/delay_before_retry 1/' keepalived.conf
import br0 --address 10.4.7.1/24
direct
says 10.4.7.11:6443 'https: up'
says 10.4.7.12:6443 'https: up'
get() { ip netns exec client curl --silent --show-error --insecure --max-time 5 https://10.4.7.10:6443/healthz; }
for i in 1 2 3 4 5 6; do get; done | sort -u
kill "$(cat rs12.pid)"
says 10.4.7.12:6443 'https: down'
for i in 1 2 3 4 5 6; do get; done | sort | uniq -c
"#,
    );
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["rs11", "rs12", "6", "rs11"], "{said}");
}

/// Tunnels, persistence, and a program whose exit status is the weight.
#[test]
fn a_search_engine_of_a_public_file() {
    let Some(_turn) = turn() else { return };
    let said = lab(
        "public-search.conf",
        r#"
machine client br0 172.16.1.50 172.16.1.1
for rs in 54 55; do
  machine rs$rs br0 172.16.1.$rs 172.16.1.1
  answer rs$rs 9200
  ip netns exec rs$rs sysctl -q net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  ip netns exec rs$rs uvs realserver --vip 172.16.1.114 --bind 172.16.1.$rs > /dev/null &
  echo 12 > 172.16.1.$rs
done
printf '#!/bin/sh\nexit "$(cat "%s/$1")"\n' "$PWD" > es_check.sh
chmod +x es_check.sh
sed -i "s|/opt/checks|$PWD|" keepalived.conf
import br0 --address 172.16.1.1/24
direct
says 172.16.1.54:9200 'exec: up'
says 172.16.1.55:9200 'exec: up'
get() { ip netns exec client curl --silent --show-error --max-time 5 http://172.16.1.114:9200/; }
first=$(get | cut -d ' ' -f 3)
for i in 1 2 3; do get; done | grep -c "this is $first"
# Its program wants less of it, and then nothing.
echo 7 > "172.16.1.${first#rs}"
says "172.16.1.${first#rs}:9200" ' 5 (script'
echo 1 > "172.16.1.${first#rs}"
says "172.16.1.${first#rs}:9200" 'exec: down'
for i in 1 2 3; do get; done | grep -vc "this is $first"
"#,
    );
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["3", "3"], "{said}");
}

/// NAT between two networks: the file says which address is on which card, and the command which bridge that is.
#[test]
fn a_shop_between_two_networks() {
    let Some(_turn) = turn() else { return };
    let said = lab(
        "web-nat.conf",
        r#"
machine client br0 203.0.113.50 203.0.113.1
for rs in 11 12 99; do machine rs$rs br1 10.20.0.$rs 10.20.0.1; done
serve() { # serve HOST PORT: files of a folder with the host's name in one
  mkdir "$1"; touch "$1/healthz"; echo "$1" > "$1/index.html"
  ip netns exec "$1" python3 -m http.server --directory "$1" "$2" > /dev/null 2>&1 & echo $! > "$1.pid"
}
serve rs11 8080; serve rs12 8080; serve rs99 80
# As it is, a server that dies is found after a quarter of a minute.
sed -i 's/delay_loop 6/delay_loop 1/; s/delay_before_retry 2/delay_before_retry 1/; /persistence_timeout/d' keepalived.conf
import br0 --bridge br1
grep -A 4 '^\[\[interface' edge.toml | grep -c '^addresses = \["[0-9.]*/24"\]$'
direct
says 10.20.0.11:8080 'http: up'
says 10.20.0.12:8080 'http: up'
get() { ip netns exec client curl --silent --show-error --max-time 5 http://203.0.113.10/; }
for i in 1 2 3 4 5 6; do get; done | sort -u
kill "$(cat rs12.pid)"
says 10.20.0.12:8080 'http: down'
for i in 1 2 3; do get; done | sort | uniq -c
kill "$(cat rs11.pid)"
says 10.20.0.11:8080 'http: down'
for try in $(seq 100); do get 2> /dev/null | grep rs99 && break; sleep 0.1; done
"#,
    );
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["2", "rs11", "rs12", "3", "rs11", "rs99"],
        "{said}"
    );
}
