//! `uvs sched component`: makes a core module the component that uvs takes, so that authors need no other tool.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::subject;
use crate::text::grouped;

/// The contract, as it came with this uvs.
pub(crate) const WIT: &str = include_str!("../../../wit/scheduler.wit");
/// Where it goes.
pub(crate) const WIT_PATH: &str = "wit/scheduler.wit";

/// The world with the optional interface.
const OBSERVING: &str = "observing-scheduler";

/// What a core module calls the function of the optional interface.
const OBSERVE: &str = "uvs:scheduler/feedback@0.1.0#observe";

/// `uvs sched component`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
#[command(after_help = "\
Bindings made by wit-bindgen tell in a section of the core module what the component's types are. A core module
without one, such as one that was bound by hand, is taken to implement the contract of this uvs.
One that exports uvs:scheduler/feedback@0.1.0#observe becomes a component that hears of events.
A file that is a component already is copied.")]
pub struct Args {
    /// The core module that a compiler made
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Where the component goes
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
}

/// Writes the component and says whether uvs takes it.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let module =
        std::fs::read(&args.input).with_context(|| format!("cannot read {}", args.input.display()))?;
    let component = wrap(module).with_context(|| {
        format!("{} cannot be made a component of the world uvs:scheduler/scheduler", args.input.display())
    })?;
    write(&args.output, &component)?;
    let name = args.output.display().to_string();
    match subject::host(true, &subject::LimitArgs::default())?.compile(&name, &component) {
        Ok(_) => {
            println!(
                "{name}: a component, {} bytes; next: uvs sched test {name}",
                grouped(component.len() as u64)
            );
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => bail!("{error}\n  fix:   {}", error.fix()),
    }
}

/// A core module as a component; a component as it is.
pub(crate) fn wrap(mut module: Vec<u8>) -> Result<Vec<u8>> {
    if module.get(..8) == Some(b"\0asm\x0d\0\x01\0") {
        return Ok(module);
    }
    if module.get(..8) != Some(b"\0asm\x01\0\0\0") {
        bail!("it is not WebAssembly\n  fix:   give what a compiler for wasm32 makes");
    }
    let world = world_of(&module)?;
    // Bindings of the world without its optional part know nothing of what an author exports beside them.
    if !has_types(&module)? || world == OBSERVING {
        let mut resolve = Resolve::default();
        let package = resolve.push_str(WIT_PATH, WIT).context("the contract is valid")?;
        let world = resolve.select_world(&[package], Some(world)).context("the contract has this world")?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    }
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

fn has_types(module: &[u8]) -> Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CustomSection(section) = payload.context("it is broken")?
            && section.name().starts_with("component-type")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The world that a module which was bound by hand implements: it hears of events if it exports their function.
fn world_of(module: &[u8]) -> Result<&'static str> {
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::ExportSection(exports) = payload.context("it is broken")? {
            for export in exports {
                if export.context("it is broken")?.name == OBSERVE {
                    return Ok(OBSERVING);
                }
            }
        }
    }
    Ok("scheduler")
}

/// Whole or not at all: a director may be watching the file.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, bytes)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_stays_as_it_is_and_garbage_is_refused() {
        let (_, rr) = uvs_plugin::SHIPPED.iter().find(|(name, _)| *name == "rr").unwrap();
        assert_eq!(wrap(rr.to_vec()).unwrap(), *rr);
        assert!(wrap(b"garbage".to_vec()).unwrap_err().to_string().contains("not WebAssembly"));
        assert!(wrap(b"\0asm\x01\0\0\0\xff".to_vec()).is_err());
    }

    #[test]
    fn a_core_module_without_the_exports_is_refused_with_their_names() {
        let empty = wat::parse_str("(module)").unwrap();
        let said = format!("{:#}", wrap(empty).unwrap_err());
        assert!(said.contains("init") || said.contains("cabi_realloc") || said.contains("memory"), "{said}");
    }

    #[test]
    fn the_world_follows_from_what_is_exported() {
        let core = |name: &str| wat::parse_str(format!(r#"(module (func (export "{name}")))"#)).unwrap();
        assert_eq!(world_of(&core(OBSERVE)).unwrap(), OBSERVING);
        assert_eq!(world_of(&core("schedule")).unwrap(), "scheduler");
        assert!(WIT.contains("package uvs:scheduler@0.1.0;"), "and its version is that of the contract");
    }
}
