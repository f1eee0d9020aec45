//! `cargo xtask bpf`: compiles the programs for the kernel: of the direct attach, and of `uvs realserver`.
//!
//! What comes out depends on the source, the compiler and what it takes from the system's headers, on nothing else:
//! paths of the checkout are mapped away, and only the types (BTF) stay of what is known for debuggers.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::toolchain::output;
use crate::wasm::root;

const USAGE: &str = "\
usage: cargo xtask bpf [--check] [--out DIR]

Compiles router/attach/bpf/*.bpf.c and writes the objects with SHA256SUMS and TOOLCHAIN (what
compiled them) to router/attach/prebuilt, or to DIR. CLANG and LLVM_STRIP name other programs than
clang and llvm-strip.

  --check    compares what is compiled with router/attach/prebuilt, byte for byte, and writes nothing there
  --out DIR  where the result goes

exit status: 0 done, or the same, or not compared because another compiler compiled it (it says so);
             1 they differ, or the compiler failed; 2 wrong usage; 3 there is no compiler for BPF
";

/// How to get a compiler.
pub(crate) const ADVICE: &str = "install clang, llvm and libbpf-dev: apt-get install clang llvm libbpf-dev";

const SOURCES: &str = "router/attach/bpf";
const PREBUILT: &str = "router/attach/prebuilt";
/// The sources, and so the objects, without what their names end with.
const PROGRAMS: [&str; 2] = ["attach", "decap"];
const SUMS: &str = "SHA256SUMS";
const RECORD: &str = "TOOLCHAIN";

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let (mut check, mut out) = (false, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.as_slice().first()) {
            ("--check", _) => check = true,
            ("--out", Some(folder)) => {
                out = Some(PathBuf::from(folder));
                args.next();
            }
            ("-h" | "--help", _) => {
                print!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            (other, _) => {
                eprint!("error: {other:?} is not known, or lacks a folder\n\n{USAGE}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    let root = root()?;
    let compiler = match Compiler::find(&root) {
        Ok(compiler) => compiler,
        Err(error) => {
            eprintln!("error: there is no compiler for BPF\n  where: {error:#}\n  fix:   {ADVICE}");
            return Ok(ExitCode::from(3));
        }
    };
    let built = compiler.build(&root)?;
    if check {
        return compare(&root, &compiler, &built, out.as_deref());
    }
    let out = out.unwrap_or_else(|| root.join(PREBUILT));
    write(&out, &built, &compiler.identity)?;
    for object in &built {
        println!("compiled {} ({} bytes)", out.join(&object.name).display(), object.bytes.len());
    }
    println!("with\n{}", compiler.identity);
    Ok(ExitCode::SUCCESS)
}

/// A compiled source.
struct Object {
    name: String,
    bytes: Vec<u8>,
}

/// Tells whether what was compiled is what is committed.
fn compare(root: &Path, compiler: &Compiler, built: &[Object], out: Option<&Path>) -> Result<ExitCode> {
    let prebuilt = root.join(PREBUILT);
    let read =
        |name: &str| fs::read(prebuilt.join(name)).with_context(|| format!("cannot read {PREBUILT}/{name}"));
    let committed = built
        .iter()
        .map(|object| Ok(Object { name: object.name.clone(), bytes: read(&object.name)? }))
        .collect::<Result<Vec<_>>>()?;
    let mut wrong = Vec::new();
    if read(SUMS)? != sums(&committed).as_bytes() {
        wrong.push(format!("{SUMS} does not fit the objects"));
    }
    let recorded = String::from_utf8_lossy(&read(RECORD)?).into_owned();
    let same_compiler = recorded == compiler.identity;
    for (committed, built) in committed.iter().zip(built) {
        if same_compiler && committed.bytes != built.bytes {
            wrong.push(format!("{} is not what the source gives", built.name));
        }
    }
    if let Some(out) = out {
        write(out, built, &compiler.identity)?;
    }
    if !wrong.is_empty() {
        eprintln!(
            "error: the committed objects are not as they should be\n  where: {PREBUILT}: {}",
            wrong.join(", ")
        );
        eprintln!("  fix:   run `cargo xtask bpf` and commit what it writes");
        return Ok(ExitCode::FAILURE);
    }
    if same_compiler {
        println!("{PREBUILT} is what the source gives");
    } else {
        println!("compiled by\n{}recorded\n{recorded}not compared", compiler.identity);
    }
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, objects: &[Object], identity: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let sums = sums(objects);
    let records = [(SUMS, sums.as_bytes()), (RECORD, identity.as_bytes())];
    let objects = objects.iter().map(|object| (object.name.as_str(), object.bytes.as_slice()));
    for (name, bytes) in objects.chain(records) {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// As `sha256sum *.bpf.o` prints it.
fn sums(objects: &[Object]) -> String {
    objects.iter().map(|object| format!("{}  {}\n", hex(&object.bytes), object.name)).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The programs that compile, and what they are.
struct Compiler {
    clang: OsString,
    strip: OsString,
    /// Their versions, and a sum over all that comes out of the headers: what the object depends on beside the source.
    identity: String,
}

impl Compiler {
    fn find(root: &Path) -> Result<Self> {
        let program = |variable, name: &str| std::env::var_os(variable).unwrap_or_else(|| name.into());
        let (clang, strip) = (program("CLANG", "clang"), program("LLVM_STRIP", "llvm-strip"));
        let version = |program: &OsString| -> Result<String> {
            let text = output(Command::new(program).arg("--version"))?;
            let line = text.lines().map(str::trim).find(|line| line.contains("version"));
            Ok(line.with_context(|| format!("{} says no version", program.display()))?.to_owned())
        };
        let versions = format!("clang: {}\nllvm-strip: {}\n", version(&clang)?, version(&strip)?);
        let mut headers = clang_command(&clang, root);
        headers.args(["-E", "-P", "headers.h"]);
        let headers = output(&mut headers).context("the headers of Linux and libbpf cannot be read")?;
        Ok(Self { identity: format!("{versions}headers: {}\n", hex(headers.as_bytes())), clang, strip })
    }

    /// Compiles all sources.
    fn build(&self, root: &Path) -> Result<Vec<Object>> {
        PROGRAMS.iter().map(|program| self.compile(root, program)).collect()
    }

    fn compile(&self, root: &Path, program: &str) -> Result<Object> {
        let folder = tempfile::Builder::new().prefix("uvs-bpf-").tempdir()?;
        let name = format!("{program}.bpf.o");
        let object = folder.path().join(&name);
        let mut compile = clang_command(&self.clang, root);
        compile.args(["-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
        // A verifier that does not trust us (CAP_PERFMON) allows no number where a pointer was spilled to.
        compile.args(["-mllvm", "-no-stack-slot-sharing"]);
        compile.arg(format!("-fdebug-compilation-dir=/uvs/{SOURCES}"));
        compile.args(["-c", &format!("{program}.bpf.c"), "-o"]).arg(&object);
        let mut strip = Command::new(&self.strip);
        strip.arg("-g").arg(&object);
        for command in [&mut compile, &mut strip] {
            let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
            ensure!(status.success(), "{command:?} failed ({status})");
        }
        let bytes = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
        Ok(Object { name, bytes })
    }
}

/// The compiler in the folder of the sources.
fn clang_command(clang: &OsString, root: &Path) -> Command {
    let mut command = Command::new(clang);
    command.current_dir(root.join(SOURCES)).args(["-target", "bpf"]);
    // Debian has what differs from machine to machine (asm/types.h) in a folder that clang does not look into for BPF.
    command.arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH));
    command
}
