//! A program that judges, as MISC_CHECK of keepalived: 0 is a success, 1 a failure, and with `dynamic` 2 to 255 a
//! success that sets the weight. It is killed with its group when the probe ends, however it does.

use super::{Ended, Passed, Stage, fail, unmade};
use crate::outcome::Says;
use crate::program;
use crate::spec::Exec;
use crate::weight::Share;

pub(super) async fn probe(exec: &Exec, stage: &Stage) -> Ended {
    stage.is("starting the program");
    let environment = exec.environment.iter().map(|(name, value)| (&**name, &**value));
    let program = program::start(&exec.command, exec.user.as_ref(), environment).map_err(unmade)?;
    stage.is("waiting for the program");
    judge(exec, &program.end().await.map_err(|error| unmade(error.to_string()))?)
}

fn judge(exec: &Exec, ended: &program::Ended) -> Ended {
    match ended.status.code().and_then(|code| u32::try_from(code).ok()) {
        Some(0) => Ok(Passed::plain(ended.text())),
        Some(dynamic @ 2..) if exec.dynamic => {
            let weight = dynamic - 2;
            let says = Says { share: Some(Share::Weight(weight)), ..Says::default() };
            Ok(Passed { text: ended.with(format!("exit status {dynamic}: weight {weight}")).into(), says })
        }
        _ => Err(fail(ended.text())),
    }
}
