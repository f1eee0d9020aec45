use crate::*;
use tokio::net::UdpSocket;

async fn echo(answer: Option<&'static [u8]>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let addr = socket.local_addr().expect("it has an address");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
            if let Some(answer) = answer {
                let _ = socket.send_to(answer, from).await;
            }
        }
    });
    addr
}

fn talk(expect: Option<&str>, answer: bool) -> Kind {
    let expect = expect.map(|text| Pattern::Bytes(text.into()));
    Kind::Udp(Talk { send: b"ask".to_vec(), expect, answer })
}

#[tokio::test]
async fn an_answer_is_compared() {
    let addr = echo(Some(b"pong")).await;
    passes(&probe(talk(Some("pong"), false), addr).await, "answered \"pong\"");
    passes(&probe(talk(None, true), addr).await, "answered \"pong\"");
    fails(&probe(talk(Some("ping"), false), addr).await, "no \"ping\" in the answer \"pong\"");
}

#[tokio::test]
async fn silence_is_a_failure_only_where_an_answer_is_wanted() {
    let addr = echo(None).await;
    passes(&probe(talk(None, false), addr).await, "nothing says that it is unreachable");
    fails(&probe(talk(None, true), addr).await, "no end within 400ms while waiting for an answer");
    fails(&probe(talk(Some("x"), false), addr).await, "no end within 400ms while waiting for an answer");
}

#[tokio::test]
async fn unreachable_is_down_whatever_is_wanted() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    for answer in [false, true] {
        fails(&probe(talk(None, answer), addr).await, "refused");
    }
}
