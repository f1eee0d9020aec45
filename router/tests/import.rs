//! `uvs import`, as a shell sees it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn uvs(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_uvs"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("uvs starts");
    // A program that reads none of it has ended by now, perhaps.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("uvs ends")
}

const NETWORK: [&str; 4] = ["--address", "192.0.2.1/24", "--gateway", "192.0.2.254"];

#[test]
fn rules_come_over_clean_and_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("edge.toml");
    let rules = "-A -t 192.0.2.10:80 -s wlc\n-a -t 192.0.2.10:80 -r 192.0.2.21:8080 -m -w 2\n";
    let mut arguments = vec!["import", "ipvsadm", "-", "--output", file.to_str().unwrap()];
    arguments.extend(NETWORK);
    let output = uvs(&arguments, rules);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let check = uvs(&["check", file.to_str().unwrap()], "");
    assert_eq!(check.status.code(), Some(0), "{check:?}\n{}", fs::read_to_string(&file).unwrap());
}

#[test]
fn remarks_have_file_and_line_and_status_3() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keepalived.conf");
    let text = "include sub.d/*.conf\n";
    fs::write(&file, text).unwrap();
    fs::create_dir(folder.path().join("sub.d")).unwrap();
    let server = "virtual_server 192.0.2.10 80 {\n protocol TCP\n lvs_sched rr\n lb_kind dr\n\
                  real_server 192.0.2.21 80 {\n }\n}\n";
    fs::write(folder.path().join("sub.d/a.conf"), server).unwrap();
    let output = uvs(&["import", "keepalived", file.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let remarks = String::from_utf8(output.stderr).unwrap();
    assert!(remarks.contains("sub.d/a.conf:4: not as written: lb_kind dr"), "{remarks}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("forward = \"nat\""));
}

#[test]
fn what_is_the_same_of_many_lines_is_said_once_unless_all_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keepalived.conf");
    let server = |n: u32| {
        format!(
            "virtual_server 192.0.2.10 {} {{\n protocol TCP\n lvs_sched rr\n lb_kind DR\n\
             real_server 192.0.2.21 {} {{\n TCP_CHECK {{\n }}\n }}\n}}\n",
            1000 + n,
            1000 + n
        )
    };
    fs::write(&file, (0..1000).map(server).collect::<String>()).unwrap();
    let remarks = |more: &[&str]| {
        let arguments = [&["import", "keepalived", file.to_str().unwrap()], &NETWORK[..], more].concat();
        let output = uvs(&arguments, "");
        assert_eq!(output.status.code(), Some(3), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let few = remarks(&[]);
    assert!(few.lines().count() < 10 && few.contains("keepalived.conf:1: different: "), "{few}");
    assert!(few.contains("and 989 more)") && few.ends_with("1000 remarks\n"), "{few}");
    let all = remarks(&["--all-remarks"]);
    assert_eq!(all.lines().count(), 1001, "{all}");
}

#[test]
fn what_cannot_be_read_has_status_2() {
    for path in ["/nonexistent/keepalived.conf", "/dev/zero", "/"] {
        let output = uvs(&["import", "keepalived", path], "");
        assert_eq!(output.status.code(), Some(2), "{path}: {output:?}");
    }
    let rules = "-A -t 192.0.2.10:80 -s wlc\n";
    let output = uvs(&["import", "ipvsadm", "-", "--address", "192.0.2.0/24"], rules);
    assert_eq!(
        output.status.code(),
        Some(2),
        "a network's own address is none of the director's: {output:?}"
    );
}
