//! `uvs sched new`: a project that builds with one command, in any language that has a template.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::builder::PossibleValuesParser;

/// A language's template; build.rs tells where they come from.
pub(crate) struct Template {
    /// As `--lang` takes it.
    pub(crate) name: &'static str,
    /// For people.
    pub(crate) language: &'static str,
    /// What has to be installed.
    pub(crate) needs: &'static str,
    /// One shell command, run in the project.
    pub(crate) build: &'static str,
    /// The file with the policy.
    pub(crate) edit: &'static str,
    pub(crate) files: &'static [File],
}

/// A file of a template.
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) content: &'static [u8],
    /// Whether it has words in double braces to be replaced.
    pub(crate) fill: bool,
}

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// `uvs sched new`.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct Args {
    /// The language to write it in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust",
          value_parser = PossibleValuesParser::new(TEMPLATES.iter().map(|template| template.name)))]
    pub lang: String,
    /// What it is called: small letters, digits and hyphens
    #[arg(value_name = "NAME", value_parser = name)]
    pub name: String,
    /// The folder to make the project's folder in
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub dir: PathBuf,
}

/// A name that is good for a crate, a file and a configuration alike.
fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let shape = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(good);
    if !shape || text.ends_with('-') || text.contains("--") || text.len() > 40 {
        return Err(
            "a name is small letters, digits and single hyphens, begins with a letter and has up to 40"
                .into(),
        );
    }
    // What cargo refuses, or what would hide a crate that the template needs.
    if ["alloc", "core", "std", "test", "proc-macro", "uvs-sdk", "self", "super", "crate"].contains(&text) {
        return Err(format!("{text:?} means something else already"));
    }
    Ok(text.to_owned())
}

/// Makes the project and tells how to go on.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let template = TEMPLATES
        .iter()
        .find(|template| template.name == args.lang)
        .context("the parser lets no other pass")?;
    let folder = args.dir.join(&args.name);
    ensure!(
        !folder.exists(),
        "{} is there already\n  fix:   take another name, or another --dir",
        folder.display()
    );
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let partial = args.dir.join(format!(".{}.partial-{}", args.name, std::process::id()));
    let made = write(template, &args.name, &partial).and_then(|()| {
        fs::rename(&partial, &folder).with_context(|| format!("cannot make {}", folder.display()))
    });
    if let Err(error) = made {
        // What was written so far is of no use; that it may not go away is not the error to tell.
        let _ = fs::remove_dir_all(&partial);
        return Err(error);
    }
    print!("{}", told(template, &args.name, &folder));
    Ok(ExitCode::SUCCESS)
}

fn write(template: &Template, name: &str, folder: &Path) -> Result<()> {
    for file in template.files {
        let path = folder.join(file.path);
        let parent = path.parent().context("a file lies in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::write(&path, file.filled(template, name)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl File {
    /// Its content in a project of this name.
    fn filled(&self, template: &Template, name: &str) -> Result<Vec<u8>> {
        if !self.fill {
            return Ok(self.content.to_vec());
        }
        let text = str::from_utf8(self.content).with_context(|| format!("{} is not text", self.path))?;
        Ok(fill(text, template, name).into_bytes())
    }
}

/// Replaces the words in double braces.
fn fill(text: &str, template: &Template, name: &str) -> String {
    text.replace("{{build}}", template.build)
        .replace("{{name}}", name)
        .replace("{{crate}}", &name.replace('-', "_"))
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
}

fn told(template: &Template, name: &str, folder: &Path) -> String {
    let fill = |text| fill(text, template, name);
    format!(
        "Made {}, a scheduler in {}. The policy is in {}; what it needs of uvs was copied.\n\
         \n\
         It takes {}.\n\
         Build:     cd {0} && {}\n\
         \n\
         Then:      uvs sched test {name}.wasm\n\
         \x20          uvs sched bench {name}.wasm\n\
         \x20          uvs sched simulate {name}.wasm wlc rr --svg {name}.svg\n",
        folder.display(),
        template.language,
        fill(template.edit),
        template.needs,
        fill(template.build),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_suit_every_language() {
        for good in ["a", "least-loaded", "p2c", "x9-y"] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "-a",
            "a-",
            "a--b",
            "A",
            "9a",
            "a_b",
            "a/b",
            "..",
            "größe",
            "std",
            "uvs-sdk",
            &"a".repeat(41),
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_template_is_whole() {
        assert!(TEMPLATES.iter().any(|template| template.name == "rust"));
        for template in TEMPLATES {
            let paths: Vec<&str> = template.files.iter().map(|file| file.path).collect();
            let edit = fill(template.edit, template, "my-policy");
            assert!(
                paths.contains(&edit.as_str()),
                "{}: {edit} is to be edited, and there is no such file",
                template.name
            );
            assert!(
                paths.contains(&"README.md") && paths.contains(&".gitignore"),
                "{}: {paths:?}",
                template.name
            );
            assert!(
                template.build.contains("{{name}}.wasm") && !template.build.contains('\n'),
                "{}",
                template.name
            );
            for file in template.files.iter().filter(|file| file.fill) {
                let text = String::from_utf8(file.filled(template, "my-policy").unwrap()).unwrap();
                assert!(!text.contains("{{"), "{}: {} keeps a word in braces", template.name, file.path);
            }
            let mut once = paths.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), paths.len(), "{}: two files in one place: {paths:?}", template.name);
        }
    }

    #[test]
    fn words_are_filled_in() {
        let template = &TEMPLATES[0];
        assert_eq!(fill("{{name}} {{crate}}", template, "least-loaded-2"), "least-loaded-2 least_loaded_2");
    }

    #[test]
    fn the_copied_sdk_depends_on_what_the_sdk_depends_on() {
        let rust = TEMPLATES.iter().find(|template| template.name == "rust").unwrap();
        let copy = rust.files.iter().find(|file| file.path == "sdk/Cargo.toml").unwrap();
        let copy = String::from_utf8(copy.filled(rust, "x").unwrap()).unwrap();
        let copy: toml::Table = copy.parse().unwrap();
        let sdk: toml::Table = include_str!("../../../sdk/Cargo.toml").parse().unwrap();
        let workspace: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
        let shared = &workspace["workspace"]["dependencies"];
        let mut seen = 0;
        for (target, tables) in sdk["target"].as_table().unwrap() {
            for (name, dependency) in tables["dependencies"].as_table().unwrap() {
                let copied = &copy["target"][target]["dependencies"][name];
                for key in ["version", "features", "default-features"] {
                    assert_eq!(copied.get(key), shared[name].get(key), "{key} of {name}");
                }
                assert_eq!(copied.get("optional"), dependency.get("optional"), "{name}");
                seen += 1;
            }
            assert_eq!(copy["target"][target]["dependencies"].as_table().unwrap().len(), seen);
        }
        assert!(seen > 0 && sdk.get("dependencies").is_none(), "the template's manifest has no others");
        assert_eq!(copy["features"], sdk["features"]);
        assert_eq!(copy["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    }
}
