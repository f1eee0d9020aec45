use crate::*;
use uvs_check::spec::{Http, HttpVersion};

pub(super) fn http() -> Http {
    Http {
        method: "GET".into(),
        path: "/health?full".into(),
        host: None,
        status: vec![200..=299],
        body: None,
        version: HttpVersion::Any,
        tls: None,
    }
}

fn get() -> Kind {
    Kind::Http(Box::new(http()))
}

fn body(text: &str) -> Kind {
    Kind::Http(Box::new(Http { body: Some(Pattern::Bytes(text.into())), ..http() }))
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nalive";

#[tokio::test]
async fn the_status_decides_and_the_body_where_it_is_looked_at() {
    let addr = says(&[FINE], End::Holds).await;
    passes(&probe(get(), addr).await, "status 200 OK");
    passes(&probe(body("live"), addr).await, "status 200 OK, with \"live\"");
    fails(&probe(body("dead"), addr).await, "status 200 OK, but no \"dead\" in the body");
    let regex = Http { body: Some(Pattern::Regex("^al.ve$".into())), ..http() };
    passes(&probe(Kind::Http(Box::new(regex)), addr).await, "status 200 OK");
    let gone = says(&[b"HTTP/1.0 503 Whatever\r\n\r\n"], End::Closes).await;
    fails(&probe(get(), gone).await, "status 503 Service Unavailable, not 200-299");
    let odd = Http { status: vec![204..=204, 500..=599], ..http() };
    passes(&probe(Kind::Http(Box::new(odd)), gone).await, "status 503");
}

#[tokio::test]
async fn it_does_not_wait_for_the_body_or_for_the_end_of_the_connection() {
    let endless = says(&[b"HTTP/1.0 200 OK\r\n\r\n", b"body"], End::Dribbles).await;
    let outcome = outcome(get(), endless).await;
    passes(&outcome.verdict, "status 200 OK");
    assert!(outcome.took < TIMEOUT / 2, "{:?}", outcome.took);
    passes(&probe(body("dyaa"), endless).await, "with \"dyaa\"");
    let chunks = says(
        &[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"3\r\nali\r\n", b"2\r\nve\r\n"],
        End::Holds,
    )
    .await;
    passes(&probe(body("alive"), chunks).await, "with \"alive\"");
}

#[tokio::test]
async fn the_request_is_what_was_asked_for() {
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let addr = server(move |mut stream| {
        let sender = sender.clone();
        Box::pin(async move {
            let mut request = vec![0; 2048];
            let len = stream.read(&mut request).await.unwrap();
            sender.send(String::from_utf8_lossy(&request[..len]).into_owned()).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        })
    })
    .await;
    passes(&probe(get(), addr).await, "status 204");
    let request = seen.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("get /health?full http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("\r\nhost: {addr}\r\n")), "{request}");
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
    let named = Http { host: Some("www.example.org".into()), method: "HEAD".into(), ..http() };
    passes(&probe(Kind::Http(Box::new(named)), addr).await, "status 204");
    let request = seen.recv().await.unwrap().to_lowercase();
    assert!(request.starts_with("head ") && request.contains("\r\nhost: www.example.org\r\n"), "{request}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let there = says(&[FINE], End::Closes).await;
    let here = server(move |mut stream| {
        Box::pin(async move {
            let _ = stream.read(&mut [0; 1024]).await;
            let answer =
                format!("HTTP/1.1 302 Found\r\nlocation: http://{there}/\r\ncontent-length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        })
    })
    .await;
    fails(&probe(get(), here).await, "status 302 Found, not 200-299");
}

#[tokio::test]
async fn whatever_else_a_server_does_is_a_failure_with_its_reason() {
    let cases: [(&'static [&'static [u8]], End, &str); 11] = [
        (&[], End::Holds, "no end within 400ms while waiting for the head of the answer"),
        (&[], End::Closes, "closed before the answer was complete"),
        (&[], End::Resets, "reset"),
        (&[], End::Dribbles, "not HTTP"),
        (&[b"HTTP/1.1 200 OK\r\nx: "], End::Dribbles, "no end within 400ms while waiting for the head"),
        (&[b"SSH-2.0-OpenSSH_9.6\r\n"], End::Closes, "not HTTP"),
        (&[b"\x15\x03\x01\x00\x02\x02\x16"], End::Closes, "not HTTP"),
        (&[b"HTTP/1.1 200 OK\r\nx: ", &[b'a'; 32768]], End::Repeats, "too large"),
        (&[b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"], End::Repeats, "too large"),
        (&[b"HTTP/1.1 999999 OK\r\n\r\n"], End::Closes, "not HTTP"),
        (&[b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"], End::Closes, "closed"),
    ];
    for (number, (pieces, end, reason)) in cases.into_iter().enumerate() {
        let verdict = probe(body("none"), says(pieces, end).await).await;
        println!("{number}: {verdict:?}");
        fails(&verdict, reason);
    }
    let flood = says(&[b"HTTP/1.0 200 OK\r\n\r\n", &[b'x'; 16384]], End::Repeats).await;
    fails(&probe(body("none"), flood).await, "no \"none\" in the first 65536 bytes");
}

#[tokio::test]
async fn a_request_that_is_none_cannot_be_made() {
    for (path, method) in [("not a path", "GET"), ("/", "GE T")] {
        let http = Http { path: path.into(), method: method.into(), ..http() };
        let addr = SocketAddr::from(([127, 0, 0, 1], 9));
        unmade(&probe(Kind::Http(Box::new(http)), addr).await, "");
    }
}
