//! Whatever a director waits for, it hears a signal.

use std::fs;
use std::path::Path;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use uvs_lab::topology::Method;

use crate::stage::{Running, Stage, eventually, turn};

/// Sends SIGHUP and waits until the reload is refused.
fn reload_in_vain(running: &mut Running, why: &str) {
    let failed = |running: &Running| running.metric("uvs_config_reloads_total", &[("result", "failed")]);
    let before = failed(running);
    running.signal(Signal::SIGHUP);
    eventually(why, || (failed(running) > before).then_some(()));
}

/// The processes that compile modules for a process. Any of its threads may have started them.
fn compilers(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let list = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).unwrap_or_default();
    let lists: Vec<String> = threads.filter_map(Result::ok).map(list).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_reload_from_a_fifo_or_of_a_module_that_compiles_for_long_keeps_no_signal_waiting() {
    let Some(_turn) = turn() else { return };
    let mut stage = Stage::of(Method::Nat);
    let service = stage.topology.service;
    let running = stage.director();
    let file = running.file();
    let config = fs::read_to_string(&file).unwrap();

    fs::remove_file(&file).unwrap();
    mkfifo(&file, Mode::S_IRWXU).unwrap();
    reload_in_vain(running, "a FIFO is no configuration");
    fs::remove_file(&file).unwrap();

    let module = file.with_file_name("mine.wasm");
    let scheduler = config.lines().find(|line| line.starts_with("scheduler = ")).unwrap();
    let with_module = config.replace(scheduler, "scheduler = 'mine.wasm'");
    fs::write(&file, &with_module).unwrap();
    mkfifo(&module, Mode::S_IRWXU).unwrap();
    reload_in_vain(running, "a FIFO is no module");
    fs::remove_file(&module).unwrap();

    fs::write(&module, slow()).unwrap();
    running.signal(Signal::SIGHUP);
    let pid = running.get().id();
    let compiler = eventually("the module is being compiled", || compilers(pid).first().copied());
    let listed = running.adm("-Ln");
    assert!(listed.contains(&service.to_string()), "{listed}");
    assert!(running.stop(Signal::SIGTERM).success());
    eventually("the compiler has ended, too", || {
        (!Path::new(&format!("/proc/{compiler}")).exists()).then_some(())
    });
}

/// A component that takes seconds to compile.
fn slow() -> Vec<u8> {
    let step = "local.get 0 local.get 0 i64.mul local.get 0 i64.rotl local.get 0 i64.xor local.set 0 ";
    let function = format!("(func (param i64) (result i64) {} local.get 0)", step.repeat(40));
    wat::parse_str(format!("(component (core module {}))", function.repeat(10_000))).unwrap()
}
