//! A datagram, and maybe its answer.

use super::pattern::{Patterns, wanted};
use super::{Ended, Passed, Stage, fail, failed};
use crate::net::{Network, Target};
use crate::spec::Talk;
use crate::text::shown;

/// What a probe does that wants no answer: it succeeds when its time is over.
pub(super) const LISTENING: &str = "listening for ICMP unreachable";

pub(super) async fn probe(
    network: &dyn Network,
    target: &Target,
    talk: &Talk,
    patterns: &Patterns,
    stage: &Stage,
) -> Ended {
    stage.is("opening a socket");
    let mut socket = network.udp(target).await?;
    socket.send(&talk.send).await.map_err(|error| failed(&error))?;
    stage.is(if talk.answer || talk.expect.is_some() { "waiting for an answer" } else { LISTENING });
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let len = socket.receive(&mut buffer).await.map_err(|error| failed(&error))?;
    let heard = buffer.get(..len).unwrap_or_default();
    match &talk.expect {
        Some(expect) if !patterns.is_in(expect, heard)? => {
            Err(fail(format!("no {} in the answer \"{}\"", wanted(expect), shown(heard))))
        }
        _ => Ok(Passed::plain(format!("answered \"{}\"", shown(heard)))),
    }
}
