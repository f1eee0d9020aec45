use domain::base::iana::{Rcode, Rtype};
use domain::base::{Message, MessageBuilder, Name};
use domain::rdata::{A, Mx};
use tokio::net::UdpSocket;
use uvs_check::spec::Dns;

use crate::*;

/// What a name server does with a question.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    Says(Rcode),
    /// The same without the question, as some servers do.
    Bare(Rcode),
    Truncates,
    AnswersAnother,
    EchoesTheQuestion,
    Garbage,
    Short,
    OtherNumber,
    Nothing,
    Closes,
    Halves,
}

/// The answer, as it goes over UDP, or TCP.
fn answer(question: &[u8], does: Does, tcp: bool) -> Vec<u8> {
    let asked = Message::from_octets(question.to_vec()).expect("a question");
    assert!(asked.header().rd() && !asked.header().qr());
    let qtype = asked.qtype().expect("one question");
    let code = match does {
        Does::Says(code) | Does::Bare(code) => code,
        _ => Rcode::NOERROR,
    };
    let mut builder = MessageBuilder::new_vec();
    let header = builder.header_mut();
    header.set_id(asked.header().id());
    header.set_qr(true);
    header.set_rcode(code);
    header.set_tc(does == Does::Truncates && !tcp);
    let name: Name<Vec<u8>> = "www.example.org".parse().expect("a name");
    let mut builder = builder.question();
    match does {
        Does::Bare(_) => {}
        Does::AnswersAnother => {
            let other: Name<Vec<u8>> = "other.example".parse().expect("a name");
            builder.push((other, qtype)).expect("room");
        }
        _ => builder.push(asked.sole_question().expect("one question")).expect("room"),
    }
    let mut builder = builder.answer();
    let whole =
        does == Does::Truncates && tcp || !matches!(does, Does::Says(_) | Does::Bare(_) | Does::Truncates);
    if whole && qtype == Rtype::A {
        for last in 1..=5 {
            builder.push((&name, 60, A::from_octets(192, 0, 2, last))).expect("room");
        }
    }
    if whole && qtype == Rtype::MX {
        let host: Name<Vec<u8>> = "Mail.example.org".parse().expect("a name");
        builder.push((&name, 60, Mx::new(10, host))).expect("room");
    }
    let mut answer = builder.finish();
    match does {
        Does::EchoesTheQuestion => return question.to_vec(),
        Does::Garbage => answer.splice(2.., [0xff; 40]).for_each(drop),
        Does::Short => answer.truncate(7),
        Does::OtherNumber => answer[0] ^= 1,
        // In the middle of the records, which the header counts.
        Does::Halves => answer.truncate(answer.len() - 7),
        _ => {}
    }
    answer
}

/// A name server on both transports.
async fn names(does: Does) -> SocketAddr {
    let (udp, tcp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        // The same port may be taken there.
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("an address")).await {
            break (udp, tcp);
        }
    };
    let addr = udp.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = udp.recv_from(&mut buffer).await {
            if does != Does::Nothing {
                let _ = udp.send_to(&answer(&buffer[..len], does, false), from).await;
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            if does == Does::Closes {
                continue;
            }
            let Ok(len) = stream.read_u16().await else { continue };
            let mut question = vec![0; usize::from(len)];
            if stream.read_exact(&mut question).await.is_err() {
                continue;
            }
            if does == Does::Nothing {
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    drop(stream);
                });
                continue;
            }
            let answer = answer(&question, does, true);
            let _ = stream.write_u16(u16::try_from(answer.len()).expect("it is short")).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    addr
}

fn asks() -> Dns {
    Dns { name: "www.example.org".into(), record: 1, codes: vec![0], expect: None, tcp: false }
}

fn kind(dns: Dns) -> Kind {
    Kind::Dns(Box::new(dns))
}

fn text(text: &str) -> Option<Pattern> {
    Some(Pattern::Bytes(text.into()))
}

#[tokio::test]
async fn the_code_decides_and_the_records_where_they_are_looked_at() {
    let addr = names(Does::Answers).await;
    for tcp in [false, true] {
        let asks = || Dns { tcp, ..asks() };
        let all = asked(kind(asks()), addr).await;
        assert_eq!(all, Verdict::Pass("NOERROR, 192.0.2.1, 192.0.2.2, 192.0.2.3 and 2 more".into()));
        passes(&asked(kind(Dns { expect: text("192.0.2.4"), ..asks() }), addr).await, "NOERROR, 192.0.2.4");
        // The whole of it: 192.0.2.1 is not 192.0.2.10.
        fails(
            &asked(kind(Dns { expect: text("192.0.2"), ..asks() }), addr).await,
            "NOERROR, but no \"192.0.2\" in the answer: 192.0.2.1, 192.0.2.2, 192.0.2.3 and 2 more",
        );
        let mail = Dns { record: 15, expect: text("10 mail.example.org"), ..asks() };
        passes(&asked(kind(mail), addr).await, "NOERROR, 10 Mail.example.org");
        let regex = Dns { expect: Some(Pattern::Regex(r"\.5$".into())), ..asks() };
        passes(&asked(kind(regex), addr).await, "192.0.2.5");
        let none = Dns { record: 28, ..asks() };
        passes(&asked(kind(none.clone()), addr).await, "NOERROR, no record of that type");
        fails(&asked(kind(Dns { expect: text("::1"), ..none }), addr).await, "no record of that type");
    }
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp() {
    let addr = names(Does::Truncates).await;
    passes(&asked(kind(Dns { expect: text("192.0.2.5"), ..asks() }), addr).await, "NOERROR, 192.0.2.5");
}

#[tokio::test]
async fn a_code_is_expected_or_not() {
    for does in [Does::Says(Rcode::NXDOMAIN), Does::Bare(Rcode::NXDOMAIN)] {
        let addr = names(does).await;
        fails(&asked(kind(asks()), addr).await, "NXDOMAIN, not NOERROR");
        let both = Dns { codes: vec![3, 5], ..asks() };
        passes(&asked(kind(both), addr).await, "NXDOMAIN");
    }
    fails(&asked(kind(asks()), names(Does::Says(Rcode::SERVFAIL)).await).await, "SERVFAIL, not NOERROR");
}

#[tokio::test]
async fn whatever_else_a_server_does_is_a_failure_with_its_reason() {
    let cases = [
        (Does::Nothing, false, "no end within 400ms while waiting for an answer"),
        (Does::Nothing, true, "no end within 400ms while waiting for an answer over TCP"),
        (Does::OtherNumber, false, "no end within 400ms while waiting for an answer with the number"),
        (Does::OtherNumber, true, "the answer is not DNS"),
        // Closed, or reset if the question was not read yet.
        (Does::Closes, true, "se"),
        (Does::AnswersAnother, false, "NOERROR, but to another question"),
        (Does::EchoesTheQuestion, false, "the answer is not DNS"),
        (Does::Garbage, false, ""),
        (Does::Garbage, true, ""),
        (Does::Short, false, "the answer is not DNS"),
        (Does::Short, true, "the answer is not DNS"),
        (Does::Halves, false, "the answer is not DNS"),
        (Does::Halves, true, "the answer is not DNS"),
    ];
    for (does, tcp, reason) in cases {
        let verdict = ends(kind(Dns { tcp, ..asks() }), names(does).await, reason).await;
        println!("{tcp} {verdict:?}");
        fails(&verdict, reason);
    }
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    for tcp in [false, true] {
        fails(&asked(kind(Dns { tcp, ..asks() }), addr).await, "refused");
    }
    let dribbles = says(&[b"\xff"], End::Dribbles).await;
    fails(
        &probe(kind(Dns { tcp: true, ..asks() }), dribbles).await,
        "no end within 400ms while waiting for the rest of an answer over TCP",
    );
    let wrong = Dns { name: "a..b".into(), ..asks() };
    unmade(&asked(kind(wrong), addr).await, "\"a..b\" is no name of a domain");
}

async fn asked(kind: Kind, addr: SocketAddr) -> Verdict {
    patient(kind, addr).await.verdict
}
