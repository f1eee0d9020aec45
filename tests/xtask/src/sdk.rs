//! x
use anyhow::Result; use std::process::ExitCode;
pub(crate) fn run(_args: &[String]) -> Result<ExitCode> {
    let (resolve, world) = crate::component::contract()?;
    let mut files = wit_bindgen_core::Files::default();
    wit_bindgen_c::Opts::default().build().generate(&mut resolve.clone(), world, &mut files)?;
    for (n, b) in files.iter() { println!("{n} {}", b.len()); std::fs::create_dir_all("/tmp/w-sdks/gen")?; std::fs::write(format!("/tmp/w-sdks/gen/{n}"), b)?; }
    Ok(ExitCode::SUCCESS)
}
