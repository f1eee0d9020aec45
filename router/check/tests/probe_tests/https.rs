use core::convert::Infallible;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use uvs_check::spec::{Http, HttpVersion, Tls};

use super::http;
use crate::*;

const NAME: &str = "www.example.org";

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

fn of(params: &CertificateParams, issuer: Option<&Issuer<'_, KeyPair>>) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let made = made.expect("a certificate");
    Identity { pem: made.pem(), certificate: made.der().clone(), key: key.serialize_der() }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    CertificateParams::new(names).expect("names")
}

/// Its own issuer, as `openssl req -x509` makes it.
pub(super) fn self_signed() -> Identity {
    let mut params = params(&[NAME]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    of(&params, None)
}

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = params.self_signed(&key).expect("a certificate").pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

impl Authority {
    fn signs(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params(&[NAME]);
        change(&mut params);
        of(&params, Some(&self.issuer))
    }
}

/// A server that says 200 and "alive" over both versions of HTTP, or those that are offered.
pub(super) async fn secure(identity: &Identity, protocols: &'static [&'static [u8]]) -> SocketAddr {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.clone()));
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_no_client_auth();
    let mut config = builder.with_single_cert(vec![identity.certificate.clone()], key).expect("it fits");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server(move |stream| {
        let acceptor = acceptor.clone();
        Box::pin(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            serve(stream, h2).await;
        })
    })
    .await
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, h2: bool) {
    let service = service_fn(alive);
    let io = TokioIo::new(stream);
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, service).await;
    }
}

/// The body tells what was asked for.
async fn alive(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let host =
        request.headers().get("host").map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let authority = request.uri().authority().map(ToString::to_string);
    let version = if request.version() == Version::HTTP_2 { 2 } else { 1 };
    let text = format!("alive {version} {} {}", host.or(authority).unwrap_or_default(), request.uri().path());
    let status = if request.uri().path() == "/gone" { 503 } else { 200 };
    Ok(Response::builder().status(status).body(Full::new(Bytes::from(text))).expect("an answer"))
}

/// A file with that in it, as long as the folder lives.
fn file(folder: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = folder.path().join("ca.pem");
    // In place of the old one at once, as careful people do it.
    let mut new = tempfile::NamedTempFile::new_in(folder.path()).expect("a file");
    new.write_all(text.as_bytes()).expect("it is written");
    new.persist(&path).expect("it is renamed");
    path
}

fn asks(tls: Tls) -> Http {
    Http { host: Some(NAME.into()), tls: Some(tls), ..http::http() }
}

fn kind(http: Http) -> Kind {
    Kind::Http(Box::new(http))
}

fn with_ca(path: PathBuf) -> Tls {
    Tls { ca: Some(path), ..Tls::default() }
}

fn unverified() -> Tls {
    Tls { verify: false, ..Tls::default() }
}

const BOTH: &[&[u8]] = &[b"h2", b"http/1.1"];

#[tokio::test]
async fn a_certificate_is_believed_by_its_issuer_or_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let issued = secure(&authority.signs(|_| {}), BOTH).await;
    let trusted = with_ca(file(&folder, &authority.pem));
    passes(&asked(kind(asks(trusted.clone())), issued).await, "status 200 OK");
    let gone = Http { path: "/gone".into(), ..asks(trusted.clone()) };
    fails(&asked(kind(gone), issued).await, "status 503 Service Unavailable, not 200-299");
    fails(&asked(kind(asks(Tls::default())), issued).await, "comes from nobody that is trusted");
    passes(&asked(kind(asks(unverified())), issued).await, "status 200 OK");

    let own = self_signed();
    let addr = secure(&own, BOTH).await;
    fails(&asked(kind(asks(trusted)), addr).await, "its certificate is one of an issuer, and is not in ca");
    let other = tempfile::tempdir().unwrap();
    let itself = with_ca(file(&other, &format!("{}{}", self_signed().pem, own.pem)));
    passes(&asked(kind(asks(itself.clone())), addr).await, "status 200 OK");
    let elsewhere = Http { host: Some("other.example".into()), ..asks(itself) };
    fails(
        &asked(kind(elsewhere), addr).await,
        "its certificate is not for other.example, but for www.example.org",
    );
}

#[tokio::test]
async fn a_certificate_has_to_name_the_host_or_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let tls = with_ca(file(&folder, &authority.pem));
    let wrong =
        secure(&authority.signs(|params| *params = self::params(&["a.example", "*.b.example"])), BOTH).await;
    fails(
        &asked(kind(asks(tls.clone())), wrong).await,
        "its certificate is not for www.example.org, but for a.example, *.b.example",
    );
    let sni = Tls { sni: Some("c.b.example".into()), ..tls.clone() };
    passes(&asked(kind(asks(sni)), wrong).await, "status 200 OK");
    let port = Http { host: Some("a.example:8443".into()), ..asks(tls.clone()) };
    passes(&asked(kind(port), wrong).await, "status 200 OK");
    let address = secure(&authority.signs(|params| *params = self::params(&["127.0.0.1"])), BOTH).await;
    let nameless = || Http { host: None, ..asks(tls.clone()) };
    passes(&asked(kind(nameless()), address).await, "status 200 OK");
    fails(&asked(kind(nameless()), wrong).await, "its certificate is not for 127.0.0.1, but for");
}

#[tokio::test]
async fn what_has_expired_or_is_about_to_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let tls = with_ca(file(&folder, &authority.pem));
    let old = secure(&authority.signs(|params| params.not_after = date_time_ymd(2021, 2, 3)), BOTH).await;
    let outcome = patient(kind(asks(tls.clone())), old).await;
    fails(&outcome.verdict, "its certificate expired at 2021-02-03T00:00:00Z");
    assert_eq!((outcome.says.expires, outcome.says.expires_soon), (Some(1_612_310_400), true));
    passes(&asked(kind(asks(unverified())), old).await, "; its certificate expired");
    let early = secure(&authority.signs(|params| params.not_before = date_time_ymd(2999, 1, 1)), BOTH).await;
    fails(&asked(kind(asks(tls.clone())), early).await, "its certificate is not valid before 2999-01-01");

    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let soon = date_time_ymd(1970, 1, 1) + Duration::from_secs(now + 5 * 86_400 + 3600);
    let soon = secure(&authority.signs(|params| params.not_after = soon), BOTH).await;
    let told = patient(kind(asks(tls.clone())), soon).await;
    passes(&told.verdict, "status 200 OK; its certificate expires in 5 d, at ");
    assert!(told.says.expires_soon);
    let later = Tls { expiry_warning: Duration::from_secs(5 * 86_400), ..tls };
    let told = patient(kind(asks(later)), soon).await;
    assert_eq!(told.verdict, Verdict::Pass("status 200 OK".into()));
    assert!(told.says.expires.is_some() && !told.says.expires_soon);
}

#[tokio::test]
async fn a_certificate_file_that_is_wrong_is_no_fault_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let authority = authority();
    let addr = secure(&authority.signs(|_| {}), BOTH).await;
    let missing = with_ca(folder.path().join("missing.pem"));
    unmade(&asked(kind(asks(missing)), addr).await, "missing.pem: No such file or directory");
    unmade(&asked(kind(asks(with_ca(folder.path().into()))), addr).await, "it is not a regular file");
    let large = folder.path().join("large.pem");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    unmade(&asked(kind(asks(with_ca(large))), addr).await, "it is larger than 4 MiB");
    let key = KeyPair::generate().unwrap().serialize_pem();
    for (text, why) in [
        ("", "it has no certificate in PEM"),
        ("garbage", "it has no certificate in PEM"),
        (&*key, "it has no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1: "),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "certificate 1: "),
    ] {
        unmade(&asked(kind(asks(with_ca(file(&folder, text)))), addr).await, why);
    }
}

#[tokio::test]
async fn a_certificate_file_that_changes_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, other) = (authority(), self::authority());
    let addr = secure(&authority.signs(|_| {}), BOTH).await;
    let path = file(&folder, &other.pem);
    let spec = ProbeSpec {
        kind: kind(asks(with_ca(path.clone()))),
        target: Target::direct(addr),
        schedule: Schedule::every(Duration::from_secs(1), PATIENCE),
    };
    let prober = prober();
    fails(&prober.probe(&spec).await.verdict, "not signed by the one of that name that is trusted");
    file(&folder, &authority.pem);
    until(&prober, &spec, |verdict| matches!(verdict, Verdict::Pass(_))).await;
    file(&folder, "garbage");
    until(&prober, &spec, |verdict| matches!(verdict, Verdict::Unmade(_))).await;
    file(&folder, &authority.pem);
    until(&prober, &spec, |verdict| matches!(verdict, Verdict::Pass(_))).await;
}

async fn until(prober: &Prober, spec: &ProbeSpec, is: impl Fn(&Verdict) -> bool) {
    let began = Instant::now();
    loop {
        let verdict = prober.probe(spec).await.verdict;
        if is(&verdict) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{verdict:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_version_is_what_both_want() {
    let identity = self_signed();
    let says = |http: Http, text: &str| kind(Http { body: Some(Pattern::Bytes(text.into())), ..http });
    let version = |version| Http { version, ..asks(unverified()) };
    let both = secure(&identity, BOTH).await;
    let second = "alive 2 www.example.org /health";
    passes(&asked(says(version(HttpVersion::Any), second), both).await, "with");
    passes(&asked(says(version(HttpVersion::Http2), second), both).await, "with");
    passes(&asked(says(version(HttpVersion::Http1), "alive 1 www.example.org /health"), both).await, "with");
    let old = secure(&identity, &[b"http/1.1"]).await;
    passes(&asked(says(version(HttpVersion::Any), "alive 1"), old).await, "with");
    fails(&asked(kind(version(HttpVersion::Http2)), old).await, "no_application_protocol");
    let silent = secure(&identity, &[]).await;
    passes(&asked(says(version(HttpVersion::Any), "alive 1"), silent).await, "with");
    fails(&asked(kind(version(HttpVersion::Http2)), silent).await, "does not offer HTTP/2 (ALPN)");

    let clear = server(|stream| Box::pin(serve(stream, true))).await;
    let known = || Http { version: HttpVersion::Http2, host: Some(NAME.into()), ..http::http() };
    passes(&asked(says(known(), second), clear).await, "with");
    let gone = Http { path: "/gone".into(), ..known() };
    fails(&asked(kind(gone), clear).await, "status 503 Service Unavailable");
    let first = server(|stream| Box::pin(serve(stream, false))).await;
    fails(&asked(kind(known()), first).await, "closed");
}

#[tokio::test]
async fn whatever_else_a_server_does_in_the_handshake_is_a_failure_with_its_reason() {
    let cases: [(&'static [&'static [u8]], End, &str); 9] = [
        (&[], End::Holds, "no end within 400ms while waiting for the TLS handshake"),
        (&[], End::Closes, "closed in the TLS handshake"),
        (&[], End::Resets, "reset in the TLS handshake"),
        (&[], End::Dribbles, "the answer is not TLS"),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], End::Closes, "the answer is not TLS"),
        (&[b"SSH-2.0-OpenSSH_9.6\r\n"], End::Closes, "the answer is not TLS"),
        (&[b"\x15\x03\x01\x00\x02\x02\x28"], End::Closes, "it ends TLS with the alert handshake_failure"),
        (&[b"\x15\x03\x03\x00\x02\x02\x70"], End::Closes, "it ends TLS with the alert unrecognized_name"),
        (&[b"\x16\x03\x03\xff\xff", &[b'x'; 8192]], End::Repeats, "TLS"),
    ];
    for (number, (pieces, end, reason)) in cases.into_iter().enumerate() {
        let verdict = ends(kind(asks(unverified())), says(pieces, end).await, reason).await;
        println!("{number}: {verdict:?}");
        fails(&verdict, reason);
    }
}

#[tokio::test]
async fn whatever_else_a_server_does_over_http2_is_a_failure_with_its_reason() {
    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
    const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    const RESET: &[u8] = b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07";
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    let cases: [(&'static [&'static [u8]], End, &str); 10] = [
        (&[], End::Holds, "no end within 400ms while waiting for the head of the answer"),
        (&[SETTINGS], End::Holds, "no end within 400ms while waiting for the head of the answer"),
        (&[], End::Closes, "closed"),
        // Reset, or closed if the end is seen by who writes.
        (&[], End::Resets, "se"),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], End::Closes, "HTTP/2"),
        (&[SETTINGS, GOAWAY], End::Closes, "HTTP/2"),
        (&[SETTINGS, RESET], End::Holds, "HTTP/2"),
        (&[&[0xff; 4096]], End::Repeats, "HTTP/2"),
        (&[SETTINGS, PING], End::Repeats, ""),
        (&[], End::Dribbles, ""),
    ];
    let http = Http { version: HttpVersion::Http2, ..http::http() };
    for (number, (pieces, end, reason)) in cases.into_iter().enumerate() {
        let verdict = ends(kind(http.clone()), says(pieces, end).await, reason).await;
        println!("{number}: {verdict:?}");
        fails(&verdict, reason);
    }
}

async fn asked(kind: Kind, addr: SocketAddr) -> Verdict {
    patient(kind, addr).await.verdict
}
