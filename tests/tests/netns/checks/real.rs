//! Each type of check against the servers that people run: nginx, dnsmasq, gRPC's own, an SSH server. All go and come
//! back together, and each check says so, straight and by way of its service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use uvs_lab::Host;
use uvs_lab::Process;

use crate::layer3::{config, hosts};
use crate::stage::{Running, eventually, turn, uvs};

const SERVER: &str = "192.168.20.11";
const NAME: &str = "www.example.org";
/// What a program has to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A check, the protocol of its service, and the port of the server.
struct Case {
    name: &'static str,
    lines: &'static str,
    protocol: &'static str,
    port: u16,
}

const fn case(name: &'static str, protocol: &'static str, port: u16, lines: &'static str) -> Case {
    Case { name, lines, protocol, port }
}

const CASES: [Case; 10] = [
    case("ssh", "tcp", 22, "type = \"tcp\"\nexpect = \"SSH-2.0\""),
    case("http", "tcp", 8080, "type = \"http\"\nexpect = \"alive over HTTP/1.1\""),
    case("h2c", "tcp", 8081, "type = \"http\"\nversion = \"2\"\nexpect = \"alive over HTTP/2.0\""),
    case(
        "https",
        "tcp",
        8443,
        "type = \"https\"\nversion = \"1.1\"\nhost = \"www.example.org\"\nca = \"ca.pem\"\nexpect = \"HTTP/1.1\"",
    ),
    case(
        "h2",
        "tcp",
        8443,
        "type = \"https\"\nhost = \"www.example.org\"\nca = \"ca.pem\"\nexpect = \"HTTP/2.0\"",
    ),
    case("anyone", "tcp", 8443, "type = \"https\"\nverify = false"),
    case("rpc", "tcp", 50051, "type = \"grpc\"\nservice_name = \"shop.Cart\""),
    case("rpcs", "tcp", 50052, "type = \"grpc\"\ntls = true\nsni = \"www.example.org\"\nca = \"ca.pem\""),
    case("names", "udp", 53, "type = \"dns\"\nquery = \"www.example.org\"\nexpect = \"192.0.2.80\""),
    case(
        "zones",
        "tcp",
        53,
        "type = \"dns\"\ntransport = \"tcp\"\nquery = \"none.example.org\"\nrcode = [\"NXDOMAIN\"]",
    ),
];

/// Whether it passes, what `uvs probe` asks, at which port, and its other arguments.
const PROBES: [(bool, &str, &str, &[&str]); 13] = [
    (true, "http", "8080", &["--expect", "alive"]),
    (false, "http", "8080", &["--expect", "dead"]),
    (true, "https", "8443", &["--insecure", "--expect", "alive"]),
    // No host trusts the authority of this test.
    (false, "https", "8443", &["--host", NAME]),
    (true, "grpc", "50051", &["--send", "shop.Cart"]),
    (false, "grpc", "50051", &["--send", "shop.Basket"]),
    (true, "grpc", "50052", &["--tls", "--insecure"]),
    (true, "dns", "53", &["--send", "www.example.org", "--expect", "192.0.2.80"]),
    (false, "dns", "53", &["--send", "none.example.org"]),
    (false, "agent", "22", &[]),
    (true, "check", "8443", &["--check", "h2", "--service", "tcp/10.0.0.100:1004"]),
    (true, "check", "22", &["--check", "ssh", "--service", "tcp/10.0.0.100:2000"]),
    // Straight and by way of the service are not the same.
    (false, "check", "22", &["--check", "ssh"]),
];

/// A service for each check and each way.
fn checked(ca: &Path) -> String {
    let all = config();
    let mut text = all.split("\n[[service]]").next().unwrap().to_owned();
    for Case { name, lines, .. } in &CASES {
        let lines = lines.replace("ca.pem", &ca.display().to_string());
        text += &format!("\n[[check]]\nname = \"{name}\"\ninterval = \"300ms\"\ntimeout = \"5s\"\n{lines}\n");
    }
    for (index, Case { name, protocol, port, .. }) in CASES.iter().enumerate() {
        for (way, first) in [("direct", 1000), ("service", 2000)] {
            text += &format!(
                "\n[[service]]\nprotocol = \"{protocol}\"\naddress = \"10.0.0.100:{}\"\nforward = \"nat\"\n\
                 checks = [\"{name}\"]\nhealth = {{ damping = 0, via = \"{way}\" }}\n\
                 destination = [{{ address = \"{SERVER}:{port}\" }}]\n",
                first + index
            );
        }
    }
    text
}

/// The programs on a real server.
struct Programs {
    host: Host,
    folder: PathBuf,
    running: Vec<Process>,
}

/// What the health service says, by gRPC's own library; the messages are what they are on the wire.
const HEALTH: &str = r#"
import sys, grpc
from concurrent import futures

def check(request, context):
    if request not in (b"", b"\x0a\x09shop.Cart"):
        context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
    return b"\x08\x01"

handler = grpc.unary_unary_rpc_method_handler(check)
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler}),))
address, folder = sys.argv[1:]
read = lambda name: open(folder + "/" + name, "rb").read()
secure = grpc.ssl_server_credentials([(read("key.pem"), read("certificate.pem"))])
assert server.add_insecure_port(address + ":50051") and server.add_secure_port(address + ":50052", secure)
server.start()
server.wait_for_termination()
"#;

impl Programs {
    fn new(host: Host, folder: &Path) -> Self {
        let server = |port: u16, more: &str| {
            format!(
                "server {{ listen {SERVER}:{port} {more}; ssl_certificate certificate.pem; \
                 ssl_certificate_key key.pem; location / {{ return 200 'alive over $server_protocol'; }} }}\n"
            )
        };
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {}/{name};\n", folder.display()))
            .concat();
        let nginx = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{}{}{}}}\n",
            server(8080, ""),
            server(8081, "http2"),
            server(8443, "ssl http2"),
        );
        fs::write(folder.join("nginx.conf"), nginx).unwrap();
        fs::write(folder.join("health.py"), HEALTH).unwrap();
        let mut key = Command::new("dropbearkey");
        key.args(["-t", "ed25519", "-f"]).arg(folder.join("host_key"));
        let made = key.output().unwrap_or_else(|error| panic!("dropbearkey (Debian: dropbear-bin): {error}"));
        assert!(made.status.success(), "{made:?}");
        Self { host, folder: folder.to_owned(), running: Vec::new() }
    }

    fn start(&mut self) {
        let folder = self.folder.display().to_string();
        let configured = format!("{folder}/nginx.conf");
        let (key, script) = (format!("{folder}/host_key"), format!("{folder}/health.py"));
        let ssh = format!("{SERVER}:22");
        let listens = format!("--listen-address={SERVER}");
        let programs: [(&str, &str, &[&str]); 4] = [
            ("nginx", "nginx-light", &["-p", &folder, "-c", &configured, "-e", "stderr"]),
            (
                "dnsmasq",
                "dnsmasq-base",
                &[
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                    "--user=root",
                    "--pid-file=",
                    "--bind-interfaces",
                    "--local=/example.org/",
                    "--address=/www.example.org/192.0.2.80",
                    &listens,
                ],
            ),
            ("dropbear", "dropbear-bin", &["-F", "-E", "-p", &ssh, "-r", &key, "-P", ""]),
            // Debian's own, which is where its gRPC is.
            ("/usr/bin/python3", "python3-grpcio", &[&script, SERVER, &folder]),
        ];
        for (program, package, arguments) in programs {
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let started = self.host.exec(command);
            self.running.push(started.unwrap_or_else(|error| panic!("Debian's {package} has it: {error:#}")));
        }
    }

    fn stop(&mut self) {
        for mut program in self.running.drain(..) {
            program.terminate(PATIENCE).unwrap();
        }
    }

    fn logs(&self) -> String {
        self.running.iter().map(|program| format!("{}\n", program.log())).collect()
    }
}

/// An authority, and the certificate of the server.
fn certify(folder: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    fs::write(folder.join("ca.pem"), authority.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    fs::write(folder.join("certificate.pem"), server.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn every_check_sees_its_server_go_and_come_back() {
    let Some(_turn) = turn() else { return };
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let hosts = hosts();
    let mut programs = Programs::new(hosts.servers[0].clone(), folder.path());
    programs.start();
    let running = Running::start(&hosts.director, &checked(&folder.path().join("ca.pem")));
    let all_are = |programs: &mut Programs, up: bool| {
        let state = if up { "up" } else { "down" };
        for (index, Case { name, protocol, .. }) in CASES.iter().enumerate() {
            for port in [1000 + index, 2000 + index] {
                let service = format!("{protocol} 10.0.0.100:{port}");
                let labels = [("service", &*service), ("check", name), ("state", state)];
                let what = format!("{name} at {port} is {state}: {}", programs.logs());
                eventually(&what, || (running.metric("uvs_check_state", &labels) == 1).then_some(()));
            }
        }
    };
    all_are(&mut programs, true);
    for secure in ["https", "h2", "anyone", "rpcs"] {
        let expiry = running.metric("uvs_check_certificate_expiry_timestamp_seconds", &[("check", secure)]);
        assert!(expiry > 0, "{secure}");
    }
    for (verdict, kind, port, more) in PROBES {
        let server = format!("{SERVER}:{port}");
        let socket = running.get().socket().display().to_string();
        let mut command = Command::new(uvs());
        command.args(["probe", kind, &server, "--timeout", "5000", "--socket", &socket]).args(more);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.starts_with("pass"), verdict, "{kind} {more:?}: {text} {output:?}");
    }
    programs.stop();
    all_are(&mut programs, false);
    programs.start();
    all_are(&mut programs, true);
    programs.stop();
}
