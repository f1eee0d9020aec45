use crate::*;
use uvs_check::outcome::Says;
use uvs_check::weight::{Admin, Share};

fn agent() -> Kind {
    Kind::Agent { send: b"hello\n".to_vec() }
}

#[tokio::test]
async fn its_line_is_read_and_not_waited_beyond() {
    for end in [End::Closes, End::Holds] {
        let addr = says(&[b"up 50", b"%\r\n"], end).await;
        let outcome = outcome(agent(), addr).await;
        passes(&outcome.verdict, "agent says \"up 50%\"");
        assert_eq!(outcome.says, Says { share: Some(Share::Percent(50)), up: Some(true), ..Says::default() });
    }
    let addr = says(&[b"drain\n"], End::Closes).await;
    assert_eq!(outcome(agent(), addr).await.says.admin, Some(Admin::Drain));
}

#[tokio::test]
async fn a_line_that_does_not_end_says_nothing() {
    let cases: [(&'static [&'static [u8]], End, &str); 5] = [
        (&[b"down"], End::Closes, "its line does not end: \"down\""),
        (&[b"down"], End::Holds, "no end within 400ms while waiting for the agent's line"),
        (&[b"down"], End::Dribbles, "no end within 400ms while waiting for the agent's line"),
        (&[&[b'a'; 512]], End::Repeats, "its line is longer than 1024 bytes"),
        (&[b"\x00\xffwhat\n"], End::Closes, "it says nothing known: \"\\0\\xffwhat\""),
    ];
    for (pieces, end, reason) in cases {
        let outcome = outcome(agent(), says(pieces, end).await).await;
        fails(&outcome.verdict, reason);
        assert_eq!(outcome.says, Says::default());
    }
}
