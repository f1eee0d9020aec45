//! `cargo xtask component`: makes a source file, or a core WebAssembly module, a component of the contract.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::sdk::{self, Language};

const USAGE: &str = "\
usage: cargo xtask component SOURCE -o SCHEDULER.wasm

Builds a scheduler with the SDK of its language, which the ending of SOURCE tells: .c, .js, .zig, .py, or .ts
(AssemblyScript). A core module (.wasm) that another build made becomes a component. Toolchains that are missing
and come from npm, PyPI or crates.io are put into the user's cache, those of the machine are asked for.

exit status: 0 done, 1 the build failed or the module does not fit the contract, 2 wrong usage
";

/// The contract.
pub(crate) const WIT: &str = include_str!("../../../wit/scheduler.wit");

/// Runs the command.
pub(crate) fn run(args: &[String]) -> Result<ExitCode> {
    let (source, out) = match args {
        [help] if help == "-h" || help == "--help" => {
            print!("{USAGE}");
            return Ok(ExitCode::SUCCESS);
        }
        [source, o, out] if o == "-o" => (PathBuf::from(source), PathBuf::from(out)),
        _ => {
            eprint!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let made = match source.extension().and_then(|extension| extension.to_str()) {
        Some("wasm") => {
            let core = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
            component(&core)
        }
        Some(extension) => match Language::of_extension(extension) {
            Some(language) => sdk::build(language, &source),
            None => bail!("there is no SDK for files that end in .{extension}"),
        },
        None => bail!("{} has no ending that tells its language", source.display()),
    };
    let made = made.with_context(|| format!("{} does not become a scheduler", source.display()))?;
    fs::write(&out, &made).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{} {} bytes", out.display(), made.len());
    Ok(ExitCode::SUCCESS)
}

/// The component that a core module becomes. It has to export the functions of the world by the canonical ABI, and
/// `cabi_realloc`; strings are UTF-8.
///
/// # Errors
/// Where the module does not fit: an export that is missing or of another type, an import that is not granted.
pub(crate) fn component(core: &[u8]) -> Result<Vec<u8>> {
    ensure!(core.starts_with(b"\0asm\x01\0\0\0"), "it is no core WebAssembly module");
    let mut module = core.to_vec();
    // Generated bindings bring the description of the world along, ours by hand do not.
    let name = world_of(core)?;
    if !describes_its_world(core)? || name == OBSERVING {
        let (resolve, world) = world(name)?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// The world with the optional interface.
const OBSERVING: &str = "observing-scheduler";

/// What a core module calls the function of the optional interface.
const OBSERVE: &str = "uvs:scheduler/feedback@0.1.0#observe";

/// The world that a module which was bound by hand implements.
fn world_of(core: &[u8]) -> Result<&'static str> {
    for payload in Parser::new(0).parse_all(core) {
        if let Payload::ExportSection(exports) = payload? {
            for export in exports {
                if export?.name == OBSERVE {
                    return Ok(OBSERVING);
                }
            }
        }
    }
    Ok("scheduler")
}

/// The contract and the world without its optional part.
pub(crate) fn contract() -> Result<(Resolve, wit_parser::WorldId)> {
    world("scheduler")
}

fn world(name: &str) -> Result<(Resolve, wit_parser::WorldId)> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("scheduler.wit", WIT)?;
    let world = resolve.select_world(&[package], Some(name))?;
    Ok((resolve, world))
}

fn describes_its_world(core: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(core) {
        if let Payload::CustomSection(section) = payload?
            && section.name().starts_with("component-type")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_core_module_is_refused() {
        for (bytes, what) in
            [(&b""[..], "nothing"), (b"\0asm\x0d\0\x01\0", "a component"), (b"int main", "C")]
        {
            assert!(component(bytes).unwrap_err().to_string().contains("no core WebAssembly"), "{what}");
        }
    }

    #[test]
    fn a_module_without_the_exports_is_told_which() {
        let error = format!("{:#}", component(b"\0asm\x01\0\0\0").unwrap_err());
        assert!(error.contains("init"), "{error}");
    }

    #[test]
    fn the_contract_has_a_world_and_one_with_feedback() {
        for (name, exports) in [("scheduler", 5), (OBSERVING, 6)] {
            let (resolve, world) = world(name).unwrap();
            assert_eq!(resolve.worlds[world].exports.len(), exports);
        }
    }
}
