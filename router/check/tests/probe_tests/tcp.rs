use crate::*;

fn expects(text: &str) -> Kind {
    Kind::Tcp(Talk { send: b"ask\n".to_vec(), expect: Some(Pattern::Bytes(text.into())), answer: false })
}

#[tokio::test]
async fn a_connection_is_enough_where_nothing_is_expected() {
    for end in [End::Closes, End::Holds, End::Resets] {
        passes(&probe(Kind::Tcp(Talk::default()), says(&[], end).await).await, "connected");
    }
}

#[tokio::test]
async fn a_banner_is_expected_without_a_word() {
    let kind = Kind::Tcp(Talk { expect: Some(Pattern::Regex("^220[ -]".into())), ..Talk::default() });
    passes(
        &probe(kind, says(&[b"220 mail\r\n"], End::SpeaksFirst).await).await,
        "answered \"220 mail\\r\\n\"",
    );
}

#[tokio::test]
async fn an_answer_may_come_in_pieces() {
    passes(&probe(expects("pong"), says(&[b"po", b"ng"], End::Holds).await).await, "answered \"pong\"");
}

#[tokio::test]
async fn whatever_else_a_server_does_is_a_failure_with_its_reason() {
    let cases: [(&'static [&'static [u8]], End, &str); 7] = [
        (&[], End::Holds, "no end within 400ms while waiting for an answer"),
        (&[], End::Closes, "closed without an answer"),
        (&[], End::Resets, "reset"),
        (&[b"-ERR\x1b[2J\n"], End::Closes, "no \"pong\" in the answer \"-ERR\\u{1b}[2J\\n\""),
        (&[], End::Dribbles, "no end within 400ms while waiting for the rest of an answer"),
        (&[&[0xff; 16384]], End::Repeats, "no \"pong\" in the first 65536 bytes"),
        (&[b"wrong"], End::Resets, "reset"),
    ];
    for (pieces, end, reason) in cases {
        fails(&probe(expects("pong"), says(pieces, end).await).await, reason);
    }
}

#[tokio::test]
async fn who_does_not_listen_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    fails(&probe(Kind::Tcp(Talk::default()), addr).await, "refused");
}

#[tokio::test]
async fn what_cannot_be_made_says_so() {
    let spec = ProbeSpec {
        kind: Kind::Tcp(Talk::default()),
        target: Target { source: Some([192, 0, 2, 1].into()), ..Target::direct(([127, 0, 0, 1], 9).into()) },
        schedule: Schedule::every(TIMEOUT, TIMEOUT),
    };
    unmade(&prober().probe(&spec).await.verdict, "192.0.2.1 is not an address to send from");
    let kind = Kind::Tcp(Talk { expect: Some(Pattern::Regex("(".into())), ..Talk::default() });
    unmade(&probe(kind, says(&[b"x"], End::SpeaksFirst).await).await, "unclosed group");
}
