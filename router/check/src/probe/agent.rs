//! HAProxy's agent check: one line of ASCII, ended by LF or CR, of words in any order; the last of a kind wins.
//!
//! ```text
//!   75%, weight:75%, weight:30   relative to the configured weight, or absolute
//!   ready, drain, maint          the administrative state
//!   up, down, fail, stopped      health; what follows # is the reason
//! ```

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Ended, Passed, Stage, fail, failed};
use crate::net::{Network, Target};
use crate::outcome::Says;
use crate::text::shown;
use crate::weight::{Admin, Share};

/// A line is not longer than this.
const LINE_MAX: usize = 1024;
/// The largest weight of HAProxy, which is what an agent means by an absolute one.
const WEIGHT_MAX: u32 = 256;
/// The largest share that is taken, in per cent.
const PERCENT_MAX: u32 = 10_000;

pub(super) async fn probe(network: &dyn Network, target: &Target, send: &[u8], stage: &Stage) -> Ended {
    stage.is("connecting to the agent");
    let mut stream = network.tcp(target).await?;
    stream.write_all(send).await.map_err(|error| failed(&error))?;
    stage.is("waiting for the agent's line");
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let len = stream.read(&mut buffer).await.map_err(|error| failed(&error))?;
        heard.extend_from_slice(buffer.get(..len).unwrap_or_default());
        if let Some(end) = heard.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            heard.truncate(end);
            return read(&heard);
        }
        if len == 0 {
            return Err(fail(format!("its line does not end: \"{}\"", shown(&heard))));
        }
        if heard.len() > LINE_MAX {
            return Err(fail(format!("its line is longer than {LINE_MAX} bytes")));
        }
    }
}

fn read(line: &[u8]) -> Ended {
    let text = String::from_utf8_lossy(line);
    let words = text.split('#').next().unwrap_or_default();
    let mut says = Says::default();
    let mut unknown = Vec::new();
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        match word.to_ascii_lowercase().as_str() {
            "ready" => says.admin = Some(Admin::Ready),
            "drain" => says.admin = Some(Admin::Drain),
            "maint" => says.admin = Some(Admin::Maint),
            "up" => says.up = Some(true),
            "down" | "fail" | "failed" | "stopped" => says.up = Some(false),
            other => match weight(other) {
                Some(share) => says.share = Some(share),
                // A limit of connections is none of health's business.
                None if other.starts_with("maxconn:") => {}
                None => unknown.push(word),
            },
        }
    }
    let said = says != Says::default();
    if !said && !unknown.is_empty() {
        return Err(fail(format!("it says nothing known: \"{}\"", shown(line))));
    }
    Ok(Passed { text: format!("agent says \"{}\"", shown(line)).into(), says })
}

fn weight(word: &str) -> Option<Share> {
    let value = word.strip_prefix("weight:").unwrap_or(word);
    if let Some(percent) = value.strip_suffix('%') {
        return percent.parse().ok().filter(|percent| *percent <= PERCENT_MAX).map(Share::Percent);
    }
    let value = word.strip_prefix("weight:")?;
    value.parse().ok().filter(|weight| *weight <= WEIGHT_MAX).map(Share::Weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_order_and_the_last_of_a_kind_wins() {
        let says = Says::default;
        let percent = |share| Some(Share::Percent(share));
        let cases: [(&str, Says); 12] = [
            ("75%", Says { share: percent(75), ..says() }),
            ("weight:75%", Says { share: percent(75), ..says() }),
            ("weight:30", Says { share: Some(Share::Weight(30)), ..says() }),
            ("weight:0", Says { share: Some(Share::Weight(0)), ..says() }),
            (
                "UP Ready,50%\tweight:20%",
                Says { share: percent(20), admin: Some(Admin::Ready), up: Some(true), ..says() },
            ),
            ("drain", Says { admin: Some(Admin::Drain), ..says() }),
            ("maint up down", Says { admin: Some(Admin::Maint), up: Some(false), ..says() }),
            ("down # up 50%", Says { up: Some(false), ..says() }),
            ("stopped", Says { up: Some(false), ..says() }),
            ("maxconn:30", says()),
            ("up what", Says { up: Some(true), ..says() }),
            ("", says()),
        ];
        for (line, want) in cases {
            assert_eq!(read(line.as_bytes()).ok().map(|passed| passed.says), Some(want), "{line:?}");
        }
        for line in ["garbage", "weight:257", "weight:-1", "30", "99999999999%", "\u{ff}\u{fe}"] {
            assert!(read(line.as_bytes()).is_err(), "{line:?}");
        }
    }
}
