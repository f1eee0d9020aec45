//! The server: pages, slow clients, and who makes room for whom.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use uvs_control::{Answer, Error, Request, adm, connections, event, sample, status};

use super::*;

struct Fixed;

impl Pages for Fixed {
    fn alive(&self) -> Standing {
        Standing::of(Vec::new())
    }

    fn ready(&self, service: Option<&str>) -> Standing {
        match service {
            None => Standing::of(vec!["it rests".to_owned()]),
            Some(service) => Standing::unknown(format!("no {service}")),
        }
    }

    fn metrics(&self) -> String {
        "uvs_up 1\n".to_owned()
    }

    fn services(&self) -> String {
        "IP Virtual Server\n".to_owned()
    }

    fn connections(&self, _: &mut dyn FnMut(String) -> bool) {
        panic!("a page that fails");
    }
}

async fn ask(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn pages_are_served_and_failures_contained() {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "metrics").await.unwrap();
    let server = listener.local_addr().unwrap();
    let task = tokio::spawn(serve::<Infallible>(listener, Arc::new(Fixed), None));
    let cases = [
        ("GET /metrics", "200 OK", "uvs_up 1\n"),
        ("GET /metrics?x=1", "200 OK", "uvs_up 1\n"),
        ("GET /services", "200 OK", "IP Virtual Server\n"),
        ("GET /", "200 OK", INDEX),
        ("GET /connections", "500 Internal Server Error", "see the log\n"),
        ("GET /healthz", "200 OK", "{\"ok\":true,\"reasons\":[]}\n"),
        ("GET /readyz", "503 Service Unavailable", "{\"ok\":false,\"reasons\":[\"it rests\"]}\n"),
        ("GET /readyz?service=tcp/a:1", "404 Not Found", "{\"ok\":false,\"reasons\":[\"no tcp a:1\"]}\n"),
        ("GET /nothing", "404 Not Found", INDEX),
        ("POST /metrics", "405 Method Not Allowed", "only GET and HEAD are answered\n"),
        ("HEAD /metrics", "200 OK", "\r\n\r\n"),
    ];
    for (request, status, end) in cases {
        let text = ask(server, request).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {text}");
        assert!(text.ends_with(end), "{request}: {text}");
    }
    assert!(ask(server, "GET /metrics").await.contains("content-type: text/plain; version=0.0.4"));
    task.abort();
}

#[tokio::test]
async fn an_address_in_use_is_a_clear_error() {
    let first = bind((Ipv4Addr::LOCALHOST, 0).into(), "metrics").await.unwrap();
    let address = first.local_addr().unwrap();
    let error = format!("{:#}", bind(address, "metrics").await.unwrap_err());
    assert!(error.contains(&address.to_string()) && error.contains("[metrics]"), "{error}");
}

/// A page without end.
struct Endless;

impl Pages for Endless {
    fn alive(&self) -> Standing {
        Standing::of(Vec::new())
    }

    fn ready(&self, _: Option<&str>) -> Standing {
        self.alive()
    }

    fn metrics(&self) -> String {
        "uvs_up 1\n".to_owned()
    }

    fn services(&self) -> String {
        String::new()
    }

    fn connections(&self, take: &mut dyn FnMut(String) -> bool) {
        while take("x".repeat(10_000)) {}
    }
}

const SHORT: Patience = Patience {
    request: Duration::from_secs(60),
    write: Duration::from_millis(500),
    idle: Duration::from_millis(300),
};

#[tokio::test]
async fn who_does_not_read_on_is_cut_off_and_the_page_is_given_up() {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "metrics").await.unwrap();
    let server = listener.local_addr().unwrap();
    let pages = Arc::new(Endless);
    let task = tokio::spawn(serve_with::<Infallible>(listener.into(), Arc::clone(&pages), None, SHORT));
    let mut stalled = TcpStream::connect(server).await.unwrap();
    stalled.write_all(b"GET /connections HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let given_up = async {
        while Arc::strong_count(&pages) < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        while Arc::strong_count(&pages) > 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), given_up).await.expect("it is made no longer");
    // What the kernel took is still there; then the connection is over, and the page is not whole.
    let mut rest = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(10), stalled.read_to_end(&mut rest)).await;
    let _ = end.expect("the server closed it");
    assert!(!rest.ends_with(b"0\r\n\r\n"), "as if it had been whole");
    task.abort();
}

#[tokio::test]
async fn silent_and_stalled_clients_make_room() {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "metrics").await.unwrap();
    let server = listener.local_addr().unwrap();
    let patience = Patience { write: Duration::from_secs(60), ..SHORT };
    let task = tokio::spawn(serve_with::<Infallible>(listener.into(), Arc::new(Endless), None, patience));
    let mut idlers = Vec::new();
    for number in 0..2 * slots::SLOTS {
        let mut idler = TcpStream::connect(server).await.unwrap();
        if number % 2 == 0 {
            idler.write_all(b"GET /connections HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        }
        idlers.push(idler);
    }
    let page = tokio::time::timeout(Duration::from_secs(20), ask(server, "GET /metrics")).await;
    assert!(page.expect("it has a turn").ends_with("uvs_up 1\n"));
    task.abort();
}

#[tokio::test]
async fn a_page_that_many_want_at_once_is_made_a_few_times_only() {
    struct Counted(std::sync::atomic::AtomicUsize);
    impl Pages for Counted {
        fn alive(&self) -> Standing {
            Standing::of(Vec::new())
        }

        fn ready(&self, _: Option<&str>) -> Standing {
            self.alive()
        }

        fn metrics(&self) -> String {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(300));
            "uvs_up 1\n".to_owned()
        }
        fn services(&self) -> String {
            String::new()
        }
        fn connections(&self, _: &mut dyn FnMut(String) -> bool) {}
    }
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "metrics").await.unwrap();
    let server = listener.local_addr().unwrap();
    let pages = Arc::new(Counted(0.into()));
    let task = tokio::spawn(serve::<Infallible>(listener, Arc::clone(&pages), None));
    let asking: Vec<_> = (0..slots::PER_PEER)
        .map(|_| tokio::spawn(async move { ask(server, "GET /metrics").await }))
        .collect();
    for one in asking {
        assert!(one.await.unwrap().ends_with("uvs_up 1\n"));
    }
    let made = pages.0.load(std::sync::atomic::Ordering::Relaxed);
    assert!(made <= 4, "{made} times");
    task.abort();
}

/// A director of so many services and destinations, which notes what it is told to do.
#[derive(Default)]
struct Fake {
    services: usize,
    /// In each service.
    destinations: usize,
    samples: std::sync::atomic::AtomicUsize,
    done: std::sync::Mutex<Vec<(Request, Who)>>,
}

impl Fake {
    fn sample(&self) -> sample::Answer {
        let taken = self.samples.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as u64 + 1;
        let destination = |service: usize, number: usize| sample::Destination {
            name: format!("10.{}.{}.{}:8080", service / 250, service % 250, number + 1),
            forwarding: ["nat", "dr", "tun"][service % 3].to_owned(),
            weight: 1,
            active: 100,
            counters: sample::Counters { connections: 1000 * taken * service as u64, ..Default::default() },
            ..sample::Destination::default()
        };
        let check = |number: usize| status::Check {
            name: "web".to_owned(),
            probe: "http 10.0.0.1:8080".to_owned(),
            state: if number == 0 { "down" } else { "up" }.to_owned(),
            last: Some("200 OK".to_owned()),
            ..status::Check::default()
        };
        let service = |number: usize| sample::Service {
            name: format!("tcp 192.0.{}.{}:80", number / 250, number % 250),
            scheduler: "wlc".to_owned(),
            available: 2,
            destinations_total: u32::try_from(self.destinations).unwrap(),
            counters: sample::Counters { connections: 10_000 * taken * number as u64, ..Default::default() },
            destinations: (0..self.destinations).map(|it| destination(number, it)).collect(),
            ..sample::Service::default()
        };
        let services: Vec<_> = (0..self.services).map(service).collect();
        let health = |service: &sample::Service| status::Health {
            service: service.name.clone(),
            judged: true,
            quorum: Some(true),
            destinations: service
                .destinations
                .iter()
                .enumerate()
                .map(|(number, it)| status::Destination {
                    destination: it.name.clone(),
                    in_service: number != 0,
                    admin: "ready".to_owned(),
                    checks: vec![check(number)],
                    ..status::Destination::default()
                })
                .collect(),
            ..status::Health::default()
        };
        sample::Answer {
            pid: 7,
            uptime_s: taken as f64,
            health: services.iter().map(health).collect(),
            services,
            ..sample::Answer::default()
        }
    }
}

impl Requests for Arc<Fake> {
    async fn answer(&self, request: Request, who: Who) -> Result<Answer, Error> {
        Ok(match &request {
            Request::Sample(_) => Answer::Sample(Box::new(self.sample())),
            Request::Status(_) => Answer::Status(Box::default()),
            Request::Destination(it) if it.name == "gone" => {
                return Err(Error::new(uvs_control::ErrorKind::Refused, "there is no destination gone"));
            }
            Request::Destination(_) => {
                self.done.lock().unwrap().push((request, who));
                Answer::Destination(Box::default())
            }
            Request::Events(_) => Answer::Events(event::Answer::default()),
            Request::Connections(_) => Answer::Connections(connections::Answer::default()),
            _ => Answer::Adm(adm::Answer::default()),
        })
    }
}

const TOKEN: &str = "0123456789abcdef";

/// A page with a token, and where it is; what is returned last keeps it.
async fn page(fake: Arc<Fake>, with_token: bool) -> (SocketAddr, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, TOKEN).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let token = with_token.then(|| Token::at(&file).unwrap());
    let page = Page::new(fake, vec!["director.example".to_owned()], token);
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), "http").await.unwrap();
    let server = listener.local_addr().unwrap();
    let patience = Patience { request: Duration::from_secs(1), ..PATIENCE };
    tokio::spawn(serve_with(listener.into(), Arc::new(Fixed), Some(page), patience));
    (server, folder)
}

/// Sends a request as it stands, and takes all that comes.
async fn send(server: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    // Whoever is refused before all was read may see a reset.
    let _ = stream.write_all(text.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request to the API, with more headers.
async fn post(server: SocketAddr, path: &str, more: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST /api/{path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    let more = if more.contains("Content-Type") {
        more.to_owned()
    } else {
        format!("Content-Type: application/json\r\n{more}")
    };
    send(server, &format!("{head}{more}Content-Length: {length}\r\n\r\n{body}")).await
}

fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

fn body_of(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)).unwrap_or_default()
}

const DRAIN: &str = r#"{"version":1,"request":{"destination":{"name":"tcp/a:1/b:1","ask":{"drain":{}}}}}"#;
const LOOK: &str = r#"{"version":1,"request":{"events":{"last":5}}}"#;

#[tokio::test]
async fn the_page_is_served_with_what_a_browser_must_not_do() {
    let (server, _folder) = page(Arc::default(), true).await;
    for (path, kind) in
        [("/", "text/html"), ("/page/main.js", "text/javascript"), ("/page/style.css", "text/css")]
    {
        let answer =
            send(server, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
                .await;
        assert_eq!(status_of(&answer), 200, "{path}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self';",
            "frame-ancestors 'none'",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            "cross-origin-resource-policy: same-origin",
            &format!("content-type: {kind}"),
        ] {
            assert!(answer.contains(header), "{path} has no {header}: {answer}");
        }
        assert!(!answer.contains("unsafe-inline") && !answer.to_lowercase().contains("set-cookie"), "{path}");
    }
    let answer =
        send(server, "GET /page/../main.js HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status_of(&answer), 404);
    let answer = post(server, "overview", "", "{}").await;
    assert!(answer.contains("cache-control: no-store") && answer.contains("nosniff"), "{answer}");
}

#[tokio::test]
async fn who_was_led_here_by_another_name_sees_nothing() {
    let (server, _folder) = page(Arc::default(), true).await;
    for path in ["/", "/services", "/connections", "/page/main.js"] {
        let answer =
            send(server, &format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"))
                .await;
        assert_eq!(status_of(&answer), 421, "{path}: {answer}");
        assert!(answer.contains("add the name to hosts"), "{answer}");
    }
    let rebound = "POST /api/overview HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(status_of(&send(server, rebound).await), 421);
    let named = "GET / HTTP/1.1\r\nHost: director.example:9180\r\nConnection: close\r\n\r\n";
    assert_eq!(status_of(&send(server, named).await), 200);
    for path in ["/metrics", "/healthz"] {
        let answer = send(
            server,
            &format!("GET {path} HTTP/1.1\r\nHost: prometheus.lists.it\r\nConnection: close\r\n\r\n"),
        )
        .await;
        assert_eq!(status_of(&answer), 200, "{path}");
    }
}

#[tokio::test]
async fn nothing_is_changed_without_the_token() {
    let fake = Arc::new(Fake::default());
    let (server, folder) = page(Arc::clone(&fake), true).await;
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let foreign = format!("{right}Origin: http://evil.example\r\n");
    let cases = [
        ("none", "", 401),
        ("a wrong one", "Authorization: Bearer 0123456789abcdeX\r\n", 401),
        ("another kind", "Authorization: Basic MDEyMzQ1Njc4OWFiY2RlZg==\r\n", 401),
        ("from another page", foreign.as_str(), 403),
        ("from another site", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("as a form", "Content-Type: text/plain\r\n", 403),
    ];
    for (what, more, status) in cases {
        let answer = post(server, "control", more, DRAIN).await;
        assert_eq!(status_of(&answer), status, "{what}: {answer}");
    }
    assert!(fake.done.lock().unwrap().is_empty());
    let answer = post(server, "control", &right, DRAIN).await;
    assert_eq!(status_of(&answer), 200, "{answer}");
    let done = std::mem::take(&mut *fake.done.lock().unwrap());
    assert!(matches!(&done[..], [(Request::Destination(_), Who::Anybody(_))]), "{done:?}");
    assert_eq!(body_of(&post(server, "overview", &right, "{}").await)["changes"], "yes");
    assert_eq!(body_of(&post(server, "overview", "", "{}").await)["changes"], "token");
    assert_eq!(
        status_of(&post(server, "overview", "Authorization: Bearer x\r\n", "{}").await),
        401,
        "a wrong one is told"
    );
    // A new token counts at once, and none that everybody can read.
    std::fs::write(folder.path().join("token"), "fedcba9876543210").unwrap();
    assert_eq!(status_of(&post(server, "control", &right, DRAIN).await), 401);
    std::fs::set_permissions(
        folder.path().join("token"),
        std::os::unix::fs::PermissionsExt::from_mode(0o644),
    )
    .unwrap();
    let answer = post(server, "control", "Authorization: Bearer fedcba9876543210\r\n", DRAIN).await;
    assert_eq!(status_of(&answer), 500, "{answer}");
    assert!(!answer.contains("token file /"), "where it is, is for the log: {answer}");
}

#[tokio::test]
async fn a_page_without_a_token_is_for_reading() {
    let fake = Arc::new(Fake::default());
    let (server, _folder) = page(Arc::clone(&fake), false).await;
    for more in ["", "Authorization: Bearer 0123456789abcdef\r\n"] {
        let answer = post(server, "control", more, DRAIN).await;
        assert_eq!(status_of(&answer), 403, "{answer}");
        assert!(body_of(&answer)["error"]["message"].as_str().unwrap().contains("token_file"), "{answer}");
    }
    assert_eq!(body_of(&post(server, "overview", "", "{}").await)["changes"], "no");
    assert_eq!(status_of(&post(server, "control", "", LOOK).await), 200);
    assert!(fake.done.lock().unwrap().is_empty());
}

#[tokio::test]
async fn of_the_control_socket_there_is_only_what_the_page_needs() {
    let fake = Arc::new(Fake::default());
    let (server, _folder) = page(Arc::clone(&fake), true).await;
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for request in [
        r#"{"adm":{"arguments":["-C"]}}"#,
        r#"{"adm":{"arguments":["-Ln"]}}"#,
        r#"{"reload":{}}"#,
        r#"{"plan":{}}"#,
        r#"{"plan":{"content":"","file":"/etc/shadow"}}"#,
        r#"{"events":{"follow":true}}"#,
        r#"{"sched":{"load":{"service":"tcp 192.0.2.10:80","file":"/etc/shadow"}}}"#,
        r#"{"probe":{"kind":"tcp","address":"192.0.2.1","port":22,"timeout_ms":1000}}"#,
    ] {
        let body = format!(r#"{{"version":1,"request":{request}}}"#);
        assert_eq!(status_of(&post(server, "control", &right, &body).await), 403, "{request}");
    }
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        (r#"{"version":9,"request":{"events":{}}}"#, 400),
        (r#"{"version":1,"request":{"events":{"lsat":1}}}"#, 400),
        (r#"{"version":1,"request":{"destination":{"name":"gone","ask":{"look":{}}}}}"#, 409),
        (r#"{"version":1,"request":{"connections":{"client":"192.0.2.7"}}}"#, 200),
    ] {
        let answer = post(server, "control", &right, body).await;
        assert_eq!(status_of(&answer), status, "{body}: {answer}");
    }
    for (request, status) in [
        ("GET /api/overview", 405),
        ("DELETE /", 405),
        ("POST /", 405),
        ("GET /api", 404),
        ("OPTIONS /api/control", 405),
    ] {
        let answer =
            send(server, &format!("{request} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status_of(&answer), status, "{request}: {answer}");
        assert!(!answer.to_lowercase().contains("access-control-allow"), "nobody else is let in: {answer}");
    }
    assert_eq!(status_of(&post(server, "nothing", "", "{}").await), 404);
}

#[tokio::test]
async fn long_and_slow_requests_end() {
    let (server, _folder) = page(Arc::default(), true).await;
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let long = " ".repeat(17 << 10) + LOOK;
    assert_eq!(status_of(&post(server, "control", "", &long).await), 413, "of somebody who may only look");
    assert_eq!(status_of(&post(server, "control", &right, &long).await), 200, "a module is longer");
    // Longer than it says, or without a word about its length.
    let head = format!(
        "POST /api/control HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    );
    let chunk = format!("{:x}\r\n{}\r\n", 20 << 10, " ".repeat(20 << 10));
    assert_eq!(
        status_of(&send(server, &format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n")).await),
        413
    );
    let headers = "x".repeat(1 << 20);
    let answer = send(server, &format!("GET / HTTP/1.1\r\nHost: {server}\r\nX: {headers}\r\n\r\n")).await;
    assert!(matches!(status_of(&answer), 431 | 0), "{answer}");
    // A body that does not come, and a head that does not end.
    for text in [
        format!("{head}Content-Length: 100\r\n\r\n{{"),
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: ".to_owned(),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(20), send(server, &text)).await;
        let answer = answer.expect("whoever is too slow is let go");
        assert!(matches!(status_of(&answer), 408 | 0), "{answer}");
    }
}

/// One sample is enough for all who look, and what one of them gets does not grow with what the director has.
#[tokio::test]
async fn a_look_at_ten_thousand_destinations_is_a_short_answer() {
    let fake = Arc::new(Fake { services: 1000, destinations: 10, ..Fake::default() });
    let (server, _folder) = page(Arc::clone(&fake), false).await;
    let looks = (0..8).map(|_| tokio::spawn(async move { post(server, "overview", "", "{}").await }));
    let looks: Vec<_> = looks.collect();
    for look in looks {
        let answer = look.await.unwrap();
        assert_eq!(status_of(&answer), 200);
        assert!(answer.len() < 16_000, "{} bytes", answer.len());
        let answer = body_of(&answer);
        assert_eq!(answer["destinations_by_state"], serde_json::json!({"down": 1000, "up": 9000}));
        assert_eq!(
            (&answer["troubles_total"], answer["troubles"].as_array().unwrap().len()),
            (&2000.into(), 20)
        );
    }
    let samples = fake.samples.load(std::sync::atomic::Ordering::Relaxed);
    assert!(samples < 5, "one for all of them, on a slow machine a few: {samples}");
    let rows = |query: &'static str| async move { body_of(&post(server, "rows", "", query).await) };
    let names = |answer: &serde_json::Value| -> Vec<String> {
        answer["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let answer = post(server, "rows", "", r#"{"table":"destinations","limit":100000}"#).await;
    assert!(answer.len() < 300_000, "{} bytes", answer.len());
    assert_eq!(
        (&body_of(&answer)["found"], body_of(&answer)["rows"].as_array().unwrap().len()),
        (&10_000.into(), 200)
    );
    let found =
        rows(r#"{"table":"destinations","filter":"10.0.7. DR","sort":"name","descending":true,"limit":3}"#)
            .await;
    assert_eq!(found["found"], 10);
    assert_eq!(
        names(&found),
        ["10.0.7.10:8080", "10.0.7.9:8080", "10.0.7.8:8080"],
        "by number, not by letter"
    );
    let found = rows(r#"{"table":"services","sort":"name","offset":998,"limit":50}"#).await;
    assert_eq!(
        (&found["found"], names(&found)),
        (&1000.into(), vec!["tcp 192.0.3.248:80".into(), "tcp 192.0.3.249:80".into()])
    );
    let found = rows(r#"{"table":"checks","sort":"state","filter":"down","limit":1}"#).await;
    assert_eq!((&found["found"], &found["rows"][0]["state"]), (&1000.into(), &"down".into()));
    let found =
        rows(r#"{"table":"destinations","service":"tcp 192.0.0.3:80","sort":"state","limit":1}"#).await;
    assert_eq!(
        (&found["found"], &found["rows"][0]["state"]),
        (&10.into(), &"down".into()),
        "the worst first"
    );
    assert_eq!(rows(r#"{"table":"services","offset":99999}"#).await["rows"], serde_json::json!([]));
    assert_eq!(status_of(&post(server, "rows", "", r#"{"table":"moons"}"#).await), 400);
    assert_eq!(status_of(&post(server, "rows", "", r#"{"table":"services","limt":1}"#).await), 400);
    // The next sample has rates, and pictures of them begin.
    let later = async {
        loop {
            let found =
                rows(r#"{"table":"services","sort":"connections_per_s","descending":true,"limit":1}"#).await;
            if found["rows"][0]["connections_per_s"] != 0.0 {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(180), later).await.expect("another sample");
    assert_eq!(names(&found), ["tcp 192.0.3.249:80"]);
    assert_eq!(found["rows"][0]["connections_per_s"], 9_990_000.0);
    assert_eq!(found["rows"][0]["history"]["connections_per_s"][0], 9_990_000.0);
}
