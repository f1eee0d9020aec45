use crate::*;
use uvs_check::outcome::Says;
use uvs_check::spec::{FileCheck, FileMeaning};
use uvs_check::weight::Share;

async fn look(path: &std::path::Path, meaning: FileMeaning) -> Outcome {
    outcome(Kind::File(FileCheck { path: path.to_owned(), meaning }), ([127, 0, 0, 1], 9).into()).await
}

#[tokio::test]
async fn a_file_says_that_it_failed_or_what_it_weighs() {
    use FileMeaning::{Failed, Weight};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    passes(&look(&path, Failed).await.verdict, "there is no such file");
    unmade(&look(&path, Weight).await.verdict, "No such file");
    let cases = [
        ("0\n", Failed, Ok("the file says 0"), None),
        ("1\n", Failed, Err("the file says 1"), None),
        (" -7 ", Failed, Err("the file says -7"), None),
        ("", Failed, Err("the file is there, and empty"), None),
        ("30\n", Weight, Ok("weight 30"), Some(30)),
        ("0", Weight, Ok("weight 0"), Some(0)),
    ];
    for (text, meaning, found, weight) in cases {
        std::fs::write(&path, text).unwrap();
        let outcome = look(&path, meaning).await;
        match found {
            Ok(found) => passes(&outcome.verdict, found),
            Err(found) => fails(&outcome.verdict, found),
        }
        assert_eq!(outcome.says, Says { share: weight.map(Share::Weight), ..Says::default() }, "{text:?}");
    }
    for (text, meaning) in [("what", Failed), ("", Weight), ("-1", Weight), ("5000000000", Weight)] {
        std::fs::write(&path, text).unwrap();
        unmade(&look(&path, meaning).await.verdict, "");
    }
}

#[tokio::test]
async fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [folder.path(), fifo.as_path()] {
        unmade(&look(path, FileMeaning::Failed).await.verdict, "not a regular file");
    }
}
