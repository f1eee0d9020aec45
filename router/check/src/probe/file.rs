//! A file that judges. It may lie on a disk that does not answer, so it is read where nobody waits for it.

use std::io::Read as _;
use std::path::Path;

use super::{Ended, Passed, Stage, fail, unmade};
use crate::outcome::Says;
use crate::spec::{FileCheck, FileMeaning};
use crate::text::shown;
use crate::weight::Share;

/// More than a number and its line.
const FILE_MAX: u64 = 64;

pub(super) async fn probe(file: &FileCheck, stage: &Stage) -> Ended {
    stage.is("reading the file");
    let path = file.path.clone();
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    let text = match read.map_err(|error| unmade(error.to_string()))? {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && file.meaning == FileMeaning::Failed => {
            return Ok(Passed::plain("there is no such file"));
        }
        Err(error) => return Err(unmade(format!("{}: {error}", file.path.display()))),
    };
    let text = text.trim_ascii();
    let number: Option<i64> = core::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    match (file.meaning, number) {
        (FileMeaning::Failed, Some(0)) => Ok(Passed::plain("the file says 0")),
        // Touched and empty, as in ldirectord's maintenancedir.
        (FileMeaning::Failed, None) if text.is_empty() => Err(fail("the file is there, and empty")),
        (FileMeaning::Failed, Some(number)) => Err(fail(format!("the file says {number}"))),
        (FileMeaning::Weight, Some(number)) => match u32::try_from(number) {
            Ok(weight) => {
                let says = Says { share: Some(Share::Weight(weight)), ..Says::default() };
                Ok(Passed { text: format!("the file says weight {weight}").into(), says })
            }
            Err(_) => Err(unmade(format!("{number} in the file is no weight"))),
        },
        (_, None) => Err(unmade(format!("no number in the file, but \"{}\"", shown(text)))),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    // To open a FIFO for reading waits for somebody who writes.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_MAX).read_to_end(&mut text)?;
    Ok(text)
}
