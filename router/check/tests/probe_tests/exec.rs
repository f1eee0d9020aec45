use crate::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use uvs_check::outcome::Says;
use uvs_check::spec::Exec;
use uvs_check::weight::Share;

/// A program that is that script.
async fn run(script: &str, dynamic: bool) -> Outcome {
    let folder = tempfile::tempdir().expect("there is room");
    let program = folder.path().join("judge");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("it can be written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    outcome_of(vec![program.display().to_string(), "10.0.0.1".into(), "a b; exit 9".into()], dynamic).await
}

async fn outcome_of(command: Vec<String>, dynamic: bool) -> Outcome {
    let environment = vec![("UVS_RIP".into(), "10.0.0.1".into())];
    outcome(
        Kind::Exec(Arc::new(Exec { command, user: None, dynamic, environment })),
        ([127, 0, 0, 1], 9).into(),
    )
    .await
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    // A zombie that nobody has waited for yet is over.
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

async fn is_gone(pid: &str) -> bool {
    for _ in 0..100 {
        if !alive(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn exit_statuses_are_those_of_misc_check() {
    passes(&run("exit 0", false).await.verdict, "exit status 0");
    fails(&run("echo no database >&2; exit 1", false).await.verdict, "exit status 1: no database");
    fails(&run("exit 7", false).await.verdict, "exit status 7");
    fails(&run("exit 1", true).await.verdict, "exit status 1");
    for (status, weight) in [(2, 0), (7, 5), (255, 253)] {
        let outcome = run(&format!("exit {status}"), true).await;
        passes(&outcome.verdict, &format!("weight {weight}"));
        assert_eq!(outcome.says, Says { share: Some(Share::Weight(weight)), ..Says::default() });
    }
    assert_eq!(run("exit 0", true).await.says, Says::default());
    fails(&run("kill -SEGV $$", false).await.verdict, "killed by SIGSEGV");
}

#[tokio::test]
async fn arguments_and_environment_are_what_was_given_and_no_shell_reads_them() {
    let script = r#"[ $# = 2 ] && [ "$1" = 10.0.0.1 ] && [ "$2" = "a b; exit 9" ] && [ "$UVS_RIP" = 10.0.0.1 ] &&
        [ -z "$HOME$CARGO_MANIFEST_DIR" ]"#;
    passes(&run(script, false).await.verdict, "exit status 0");
}

#[tokio::test]
async fn a_program_that_is_missing_cannot_be_made() {
    unmade(&outcome_of(vec!["/nowhere/judge".into()], false).await.verdict, "/nowhere/judge cannot be run");
    unmade(&outcome_of(vec!["/dev/null".into()], false).await.verdict, "cannot be run: Permission denied");
}

#[tokio::test]
async fn at_the_deadline_its_whole_group_is_killed_whatever_it_ignores() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("pids");
    let script = format!(
        "trap '' TERM HUP INT\n(trap '' TERM; while :; do sleep 1; done) &\necho $$ $! > {}\nwhile :; do sleep 1; done",
        list.display()
    );
    fails(&run(&script, false).await.verdict, "no end within 400ms while waiting for the program");
    let pids = std::fs::read_to_string(&list).unwrap();
    assert_eq!(pids.split_whitespace().count(), 2);
    for pid in pids.split_whitespace() {
        assert!(is_gone(pid).await, "{pid} lives on");
    }
}

#[tokio::test]
async fn what_it_leaves_behind_is_not_waited_for_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("pids");
    let script = format!("sleep 60 &\necho $! > {}\necho fine\nexit 0", list.display());
    passes(&run(&script, false).await.verdict, "exit status 0: fine");
    let pid = std::fs::read_to_string(&list).unwrap();
    assert!(is_gone(pid.trim()).await, "{pid} lives on");
}

#[tokio::test]
async fn a_flood_of_output_neither_blocks_it_nor_is_kept() {
    let outcome = run("head -c 3000000 /dev/zero; exit 0", false).await;
    passes(&outcome.verdict, "exit status 0: \\0\\0");
    assert!(outcome.verdict.text().len() < 200);
    fails(&run("exec cat /dev/zero", false).await.verdict, "no end within 400ms");
}

/// A program that has another user has that one's rights, his group, and no others.
#[tokio::test]
async fn a_program_is_run_as_who_it_is_to_be_run_as() {
    let user = |uid, gid| Some(uvs_check::program::User { name: "somebody".into(), uid, gid });
    let run = async |user, wanted: &str| {
        let script = format!("test \"$(id -u) $(id -g) $(id -G)\" = '{wanted}'");
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let exec = Exec { command, user, dynamic: false, environment: Vec::new() };
        outcome(Kind::Exec(Arc::new(exec)), ([127, 0, 0, 1], 9).into()).await.verdict
    };
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    assert!(user(own.0, own.1).unwrap().is_own());
    if uvs_check::program::may_change_user() {
        passes(&run(user(4_000_001, 4_000_002), "4000001 4000002 4000002").await, "exit status 0");
    } else {
        let Verdict::Unmade(why) = run(user(4_000_001, 4_000_002), "").await else {
            panic!("it cannot be made")
        };
        assert!(why.contains("as somebody") && why.contains("root"), "{why}");
    }
}
