//! A TCP connection, and maybe a word on it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pattern::{Patterns, wanted};
use super::{Ended, Passed, READ_MAX, Stage, fail, failed};
use crate::net::{Network, Target};
use crate::spec::Talk;
use crate::text::shown;

pub(super) async fn probe(
    network: &dyn Network,
    target: &Target,
    talk: &Talk,
    patterns: &Patterns,
    stage: &Stage,
) -> Ended {
    stage.is("connecting");
    if talk.send.is_empty() && talk.expect.is_none() {
        network.half_open(target).await?;
        return Ok(Passed::plain("connected"));
    }
    let mut stream = network.tcp(target).await?;
    if !talk.send.is_empty() {
        stage.is("sending");
        stream.write_all(&talk.send).await.map_err(|error| failed(&error))?;
        stream.flush().await.map_err(|error| failed(&error))?;
    }
    let Some(expect) = &talk.expect else { return Ok(Passed::plain("connected")) };
    stage.is("waiting for an answer");
    let mut heard = Vec::new();
    let mut buffer = vec![0; 4096];
    loop {
        let len = stream.read(&mut buffer).await.map_err(|error| failed(&error))?;
        if len == 0 && heard.is_empty() {
            return Err(fail("closed without an answer"));
        }
        if len == 0 {
            return Err(fail(format!("no {} in the answer \"{}\"", wanted(expect), shown(&heard))));
        }
        heard.extend_from_slice(buffer.get(..len).unwrap_or_default());
        if patterns.is_in(expect, &heard)? {
            return Ok(Passed::plain(format!("answered \"{}\"", shown(&heard))));
        }
        if heard.len() >= READ_MAX {
            return Err(fail(format!("no {} in the first {READ_MAX} bytes", wanted(expect))));
        }
        stage.is("waiting for the rest of an answer");
    }
}
