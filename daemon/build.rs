//! Embeds the page: `$OUT_DIR/assets.rs` is a table of its parts, compressed.
//!
//! ```text
//! daemon/web ─ copied ─▶ $OUT_DIR/web ─┬ Node: npm ci, esbuild ─▶ bundles, players, licences ─┬─ gzip ─▶ assets.rs
//!                                      └ none: its modules as they are, without players ──────┘
//! ```
//!
//! Packages come from the npm registry by `package-lock.json`, and nothing is written into the source tree. A build
//! without Node, or that cannot reach a registry, leaves the players in the page out and says so; `SKYCACHE_PLAYERS=no`
//! asks for that, `SKYCACHE_PLAYERS=yes` makes it an error.

#[path = "../packaging/version.rs"]
mod version;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};

/// Folders of `daemon/web` that are not its sources.
const NOT_SOURCES: [&str; 1] = ["node_modules"];

fn main() {
    println!("cargo:rerun-if-env-changed=SKYCACHE_PLAYERS");
    println!("cargo:rerun-if-changed=../packaging/version.rs");
    version::set();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo names it"));
    let web = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo names it")).join("web");
    let (work, bundles) = (out.join("web"), out.join("bundles"));
    let sources = copy(&web, &work).unwrap_or_else(|err| panic!("{}: {err}", web.display()));
    let players = env::var("SKYCACHE_PLAYERS").unwrap_or_default();
    let bundled =
        if players == "no" { Err("SKYCACHE_PLAYERS=no".to_owned()) } else { bundle(&work, &bundles) };
    let assets = match &bundled {
        Ok(()) => files(&bundles).expect("just written"),
        Err(why) => {
            assert!(players != "yes", "the players of the page cannot be bundled: {why}");
            println!(
                "cargo:warning=the page is built without players ({why}): it links streams for players beside the \
                 browser; install Node 18 or later with npm, or set SKYCACHE_PLAYERS=yes to see what fails"
            );
            as_they_are(&work, &sources)
        }
    };
    let table =
        table(&out, &assets, bundled.is_ok()).unwrap_or_else(|err| panic!("{}: {err}", out.display()));
    fs::write(out.join("assets.rs"), table).expect("OUT_DIR can be written");
}

/// Copies the sources of the page, and has cargo look at each of them.
fn copy(from: &Path, to: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut folders = vec![PathBuf::new()];
    // A file that is gone in the sources must not stay here.
    if to.join("src").is_dir() {
        fs::remove_dir_all(to.join("src"))?;
    }
    while let Some(folder) = folders.pop() {
        println!("cargo:rerun-if-changed={}", from.join(&folder).display());
        fs::create_dir_all(to.join(&folder))?;
        for entry in fs::read_dir(from.join(&folder))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                if !NOT_SOURCES.iter().any(|it| name == Path::new(it)) {
                    folders.push(name);
                }
                continue;
            }
            println!("cargo:rerun-if-changed={}", entry.path().display());
            fs::copy(entry.path(), to.join(&name))?;
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Fetches the packages and makes the bundles.
fn bundle(work: &Path, bundles: &Path) -> Result<(), String> {
    if bundles.is_dir() {
        fs::remove_dir_all(bundles).map_err(|err| err.to_string())?;
    }
    let run = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let output = Command::new(program).args(arguments).current_dir(work).output();
        let output = output.map_err(|err| format!("{program}: {err}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().find(|line| line.contains("rror")).unwrap_or("it failed").trim().to_owned();
        Err(format!("{program}: {said}"))
    };
    let words = |text: &'static str| text.split(' ').map(std::ffi::OsStr::new).collect::<Vec<_>>();
    // Scripts of packages are not run: what is built from is what the lock file names.
    run("npm", &words("ci --omit=dev --ignore-scripts --no-audit --no-fund --prefer-offline"))?;
    run("node", &[std::ffi::OsStr::new("build.mjs"), bundles.as_os_str()])
}

/// Every file below a folder, by name.
fn files(root: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else {
                all.push((name.to_string_lossy().into_owned(), fs::read(entry.path())?));
            }
        }
    }
    all.sort();
    Ok(all)
}

/// The sources as browsers take them: modules beside the page.
fn as_they_are(work: &Path, sources: &[String]) -> Vec<(String, Vec<u8>)> {
    let name_of = |source: &String| match source.as_str() {
        "index.html" | "admin.html" | "icon.svg" | "style.css" | "admin.css" => Some(source.clone()),
        it if it.starts_with("lang/") => Some(source.clone()),
        it => it.strip_prefix("src/").filter(|it| it.ends_with(".js")).map(str::to_owned),
    };
    let mut all: Vec<(String, Vec<u8>)> = sources
        .iter()
        .filter_map(|source| Some((name_of(source)?, fs::read(work.join(source)).expect("just copied"))))
        .collect();
    all.push((
        "licences.txt".to_owned(),
        b"The page of Skycache contains no parts of other packages.\n".to_vec(),
    ));
    all
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

/// Writes the compressed parts beside the table, and gives the table. The same sources give the same bytes.
fn table(out: &Path, assets: &[(String, Vec<u8>)], has_players: bool) -> io::Result<String> {
    let folder = out.join("compressed");
    if folder.is_dir() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut text = format!(
        "/// Whether hls.js and dash.js are among the parts.\npub(crate) const HAS_PLAYERS: bool = {has_players};\n"
    );
    text.push_str("/// The parts, by name.\nstatic ASSETS: &[Asset] = &[\n");
    for (number, (name, bytes)) in assets.iter().enumerate() {
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        gzip.write_all(bytes)?;
        let file = folder.join(format!("{number}.gz"));
        fs::write(&file, gzip.finish()?)?;
        let digest: String =
            Sha256::digest(bytes).iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(
            text,
            "    Asset {{ name: {name:?}, content_type: {:?}, gzip: include_bytes!({file:?}), etag: {:?} }},",
            content_type(name),
            format!("\"{digest}\"")
        );
    }
    text.push_str("];\n");
    Ok(text)
}
