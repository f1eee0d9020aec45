//! `include`: one configuration in several files.

use std::path::Path;

use uvs_config::{Config, Problems};

const NETWORK: &str = "[[interface]]
name = 'uvs0'
device = 'tap'
addresses = ['192.0.2.1/24']
";

/// What is tried, the files that are included, and all that is said.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// A service on that port.
fn service(port: u16) -> String {
    format!(
        "[[service]]\nprotocol = 'tcp'\naddress = '192.0.2.10:{port}'\nforward = 'dr'\n\
         destination = [{{ address = '192.0.2.21' }}]\n"
    )
}

/// Files in a new folder, by their names.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("in the folder")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
    folder
}

/// What is said about `uvs.toml` in that folder, whose path is left out.
fn told(folder: &tempfile::TempDir) -> String {
    let problems = Config::load(folder.path().join("uvs.toml")).expect_err("no config");
    without(folder, &problems)
}

fn without(folder: &tempfile::TempDir, problems: &Problems) -> String {
    problems.to_string().replace(&format!("{}/", folder.path().display()), "")
}

fn ports(config: &Config) -> Vec<String> {
    config.services.iter().map(|service| service.spec.key.to_string()).collect()
}

#[test]
fn files_count_in_the_order_of_the_list_and_of_their_names() {
    let main =
        format!("include = ['last.toml', 'conf.d/*.toml', 'conf.d/20-b.toml']\n{NETWORK}{}", service(1));
    let folder = folder(&[
        ("uvs.toml", &main),
        ("last.toml", &service(9)),
        ("conf.d/20-b.toml", &format!("include = ['more/?.toml']\n{}", service(20))),
        ("conf.d/10-a.toml", &service(10)),
        ("conf.d/30-c.toml~", "not TOML"),
        ("conf.d/.40-d.toml", "not TOML"),
        ("conf.d/more/x.toml", &service(21)),
        ("conf.d/more/zz.toml", "not TOML"),
    ]);
    let config = Config::load(folder.path().join("uvs.toml")).expect("valid");
    let want = ["1", "9", "10", "20", "21"].map(|port| format!("tcp 192.0.2.10:{port}"));
    assert_eq!(ports(&config), want);
    let names: Vec<_> = config
        .files
        .iter()
        .map(|file| file.strip_prefix(folder.path()).expect("in the folder").display().to_string())
        .collect();
    assert_eq!(
        names,
        ["uvs.toml", "last.toml", "conf.d/10-a.toml", "conf.d/20-b.toml", "conf.d/more/x.toml"]
    );
    assert_eq!(config.warnings, []);
}

#[test]
fn tables_are_put_together_key_by_key() {
    let folder = folder(&[
        ("uvs.toml", &format!("include = ['*.d/*']\n{NETWORK}[timeouts]\ntcp = 60\n")),
        ("a.d/1", "compat = 'ipvs'\n[timeouts]\nudp = 5\n[metrics]\nlisten = '127.0.0.1:9100'\n"),
    ]);
    let config = Config::load(folder.path().join("uvs.toml")).expect("valid");
    assert!(config.options.compat_ipvs && config.metrics.is_some());
    let alone = format!("compat = 'ipvs'\n{NETWORK}[timeouts]\ntcp = 60\nudp = 5\n");
    assert_eq!(config.timeouts, Config::parse(&alone, "alone.toml").expect("valid").timeouts);
}

#[test]
fn paths_begin_in_the_folder_of_the_file_that_names_them() {
    let scheduler = "[[scheduler]]\nname = 'mine'\nmodule = 'mine.wasm'\n";
    let folder = folder(&[
        ("uvs.toml", &format!("include = ['conf.d/mine.toml']\n{NETWORK}")),
        ("conf.d/mine.toml", scheduler),
        ("conf.d/mine.wasm", "a module"),
    ]);
    let config = Config::load(folder.path().join("uvs.toml")).expect("valid");
    assert_eq!(config.schedulers[0].module.path, folder.path().join("conf.d/mine.wasm"));
}

#[test]
fn what_is_wrong_is_said_of_the_file_and_the_line_that_it_is_in() {
    let cases: &[Case] = &[
        (
            "one service in two files",
            &[("conf.d/a.toml", "\n@80"), ("conf.d/b.toml", "# b\n\n@80")],
            "error: a second service tcp 192.0.2.10:80
  where: conf.d/b.toml:3, service tcp 192.0.2.10:80
  fix:   move its destinations to the one in conf.d/a.toml:2",
        ),
        (
            "one service in the file and in one that it includes",
            &[("conf.d/a.toml", "@443")],
            "error: a second service tcp 192.0.2.10:443
  where: conf.d/a.toml:1, service tcp 192.0.2.10:443
  fix:   move its destinations to the one in uvs.toml:6",
        ),
        (
            "twice in one file that is included",
            &[("conf.d/a.toml", "@80\n@80")],
            "error: a second service tcp 192.0.2.10:80
  where: conf.d/a.toml:7, service tcp 192.0.2.10:80
  fix:   move its destinations to the one in line 1",
        ),
        (
            "a word in it is wrong",
            &[("conf.d/a.toml", "\n[[service]]\nprotocl = 'tcp'\naddress = '192.0.2.10:1'\nforward = 'dr'\n")],
            "error: unknown key \"protocl\"
  where: conf.d/a.toml:3, service 192.0.2.10:1
  fix:   did you mean \"protocol\"? The keys here are protocol, address, mark, family, scheduler, options, shadow, \
             canary, persistent, netmask, one_packet, sloppy_tcp, forward, tunnel, destination, checks, health, drain",
        ),
        (
            "one key in two files",
            &[
                ("conf.d/a.toml", "compat = 'ipvs'\n[limits]\nneighbors = 9\n"),
                ("conf.d/b.toml", "[limits]\n\nneighbors = 9\n"),
            ],
            "error: neighbors of [limits] is given twice
  where: conf.d/b.toml:3
  fix:   remove it here or at conf.d/a.toml:3",
        ),
        (
            "one word at the top of two files",
            &[("conf.d/a.toml", "transit = 'any'\n"), ("conf.d/b.toml", "transit = 'any'\n")],
            "error: transit is given twice
  where: conf.d/b.toml:1
  fix:   remove it here or at conf.d/a.toml:1",
        ),
        (
            "no TOML, in two of them",
            &[("conf.d/a.toml", "\nx =\n"), ("conf.d/b.toml", "[\n")],
            "error: this is not TOML: string values must be quoted, expected literal string
  where: conf.d/a.toml:2:4
  fix:   correct the syntax here: key = value, text in quotes, tables as [name] or [[name]]
error: this is not TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
  where: conf.d/b.toml:1:2
  fix:   correct the syntax here: key = value, text in quotes, tables as [name] or [[name]]",
        ),
        (
            "a file that is not there",
            &[("conf.d/a.toml", "\ninclude = ['b.toml']\n")],
            "error: conf.d/b.toml cannot be included: No such file or directory (os error 2)
  where: conf.d/a.toml:2
  fix:   correct the path, which begins in the folder of this file, or remove it",
        ),
        (
            "a folder",
            &[("conf.d/a.toml", "include = ['x']\n"), ("conf.d/x/y", "")],
            "error: conf.d/x cannot be included: it is a folder
  where: conf.d/a.toml:1
  fix:   correct the path, which begins in the folder of this file, or remove it",
        ),
        (
            "itself",
            &[("conf.d/a.toml", "include = ['*.toml']\n")],
            "error: include \"*.toml\" includes this file itself
  where: conf.d/a.toml:1
  fix:   remove it, or put what is to be included into a folder of its own",
        ),
        (
            "a circle",
            &[("conf.d/a.toml", "include = ['x/b']\n"), ("conf.d/x/b", "include = ['../../uvs.toml']\n")],
            "error: include \"../../uvs.toml\" includes conf.d/x/../../uvs.toml, which includes this
  where: conf.d/x/b:1
  fix:   remove it, or put what is to be included into a folder of its own",
        ),
        (
            "no list",
            &[("conf.d/a.toml", "include = 'b'\n")],
            "error: include must be an array of strings, not a string
  where: conf.d/a.toml:1
  fix:   write include = [\"conf.d/*.toml\"]",
        ),
        (
            "no strings",
            &[("conf.d/a.toml", "include = [\n7]\n")],
            "error: an entry of include must be a string, not an integer
  where: conf.d/a.toml:2
  fix:   write include = [\"conf.d/*.toml\"]",
        ),
        (
            "no pattern",
            &[("conf.d/a.toml", "include = ['x[']\n")],
            "error: include \"x[\" is no pattern: invalid range pattern
  where: conf.d/a.toml:1
  fix:   use * and ?, and a list of characters as in [0-9]",
        ),
        (
            "all below a folder",
            &[("conf.d/a.toml", "include = ['/**/x']\n")],
            "error: include \"/**/x\": ** would search whatever lies below
  where: conf.d/a.toml:1
  fix:   write a pattern for each folder, as in \"conf.d/*.toml\"",
        ),
        (
            "no text",
            &[("conf.d/a.toml", "include = ['']\n")],
            "error: include has an empty path
  where: conf.d/a.toml:1
  fix:   name the file, or a pattern as in \"conf.d/*.toml\"",
        ),
    ];
    let main = format!("include = ['conf.d/*.toml']\n{NETWORK}{}", service(443));
    for (name, files, want) in cases {
        let texts: Vec<(&str, String)> = files
            .iter()
            .map(|(name, text)| (*name, text.replace("@443", &service(443)).replace("@80", &service(80))))
            .collect();
        let mut files: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        files.push(("uvs.toml", &main));
        assert_eq!(told(&folder(&files)), *want, "{name}");
    }
}

#[test]
fn a_pattern_without_its_folder_is_a_warning_and_one_that_matches_nothing_is_not() {
    let folder = folder(&[
        ("uvs.toml", &format!("include = ['conf.d/*.toml', 'con.d/*.toml', '*/x.toml']\n{NETWORK}")),
        ("conf.d/README", ""),
    ]);
    let config = Config::load(folder.path().join("uvs.toml")).expect("valid");
    let told = without(&folder, &Problems(config.warnings));
    let want = "warning: include \"con.d/*.toml\" matches nothing: there is no folder con.d
  where: uvs.toml:1
  fix:   make that folder, or remove the entry";
    assert_eq!(told, want);
}

#[test]
fn all_files_together_are_bounded() {
    let half = format!("# {}\n", "x".repeat(9 << 20));
    let folder = folder(&[("uvs.toml", "include = ['*.d/*']\n"), ("a.d/1", &half), ("a.d/2", &half)]);
    let want = "error: the config has more than 16777216 bytes with a.d/2
  where: uvs.toml:1
  fix:   make it shorter, or remove it";
    assert_eq!(told(&folder), want);
}

#[test]
fn so_many_files_and_no_more() {
    let folder = folder(&[("uvs.toml", &format!("include = ['many/*']\n{NETWORK}"))]);
    let many = folder.path().join("many");
    std::fs::create_dir(&many).expect("a folder");
    for number in 0..1023 {
        std::fs::write(many.join(format!("{number:04}")), "").expect("written");
    }
    let config = Config::load(folder.path().join("uvs.toml")).expect("valid");
    assert_eq!(config.files.len(), 1024);
    std::fs::write(many.join("9999"), "").expect("written");
    assert!(told(&folder).starts_with("error: the config has more than 1024 files\n  where: uvs.toml:1\n"));
}

#[test]
fn a_chain_as_long_as_it_can_be_is_read() {
    let folder = folder(&[("uvs.toml", &format!("include = ['0']\n{NETWORK}"))]);
    for number in 0..100 {
        let next = if number == 14 { String::new() } else { format!("include = ['{}']\n", number + 1) };
        std::fs::write(folder.path().join(number.to_string()), next).expect("written");
    }
    let config = Config::load(folder.path().join("uvs.toml")).expect("valid");
    assert_eq!(config.files.len(), 16);
    std::fs::write(folder.path().join("14"), "include = ['15']").expect("written");
    let want = "error: more than 16 files include one another
  where: 14:1
  fix:   include it from a file further up";
    assert_eq!(told(&folder), want);
}

#[test]
fn a_device_is_never_opened_and_never_waited_for() {
    let folder = folder(&[("uvs.toml", "include = ['/dev/zero']\n")]);
    assert!(told(&folder).starts_with("error: /dev/zero cannot be included: it is a device\n"));
    assert!(
        Config::load(Path::new("/dev/zero"))
            .expect_err("endless")
            .to_string()
            .contains("longer than 16777216 bytes")
    );
}
