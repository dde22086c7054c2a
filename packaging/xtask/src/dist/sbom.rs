//! Bill of materials of a program: a CycloneDX document (1.5, JSON), and the licence texts of all of it.
//!
//! Made from cargo's own resolution of the shipped build (target, features), so that only linked crates are listed. Macros
//! run on the machine that builds and are left out. The same commit gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use carousel::digest::Digest;
use serde_json::{Value, json};

use super::package::LICENSE;
use super::tree::{Tree, gzip};
use super::{Release, toolchain};

/// A crate or script that is part of a program.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    version: String,
    /// SPDX expression.
    licence: String,
    /// Package URL: identifies it in every registry.
    purl: String,
    /// Algorithm and hexadecimal digits of the archive that the registry has.
    hash: Option<(&'static str, String)>,
    folder: Option<PathBuf>,
    /// Package URLs.
    needs: Vec<String>,
}

/// Components of a program.
#[derive(Debug)]
pub(crate) struct Contents {
    program: &'static str,
    version: String,
    created: String,
    triple: String,
    /// Package URL of the program's own crate.
    own: String,
    parts: Vec<Part>,
}

fn output(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|err| format!("{command:?}: {err}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn purl(name: &str, version: &str) -> String {
    format!("pkg:cargo/{name}@{version}")
}

/// `(name, version)` of each crate that cargo links for this program.
fn linked(
    release: &Release,
    package: &str,
    triple: &str,
    has_default_features: bool,
) -> Result<BTreeSet<(String, String)>, String> {
    let mut command = release.cargo();
    command.args(["tree", "--locked", "-p", package, "--target", triple, "--edges", "normal,no-proc-macro"]);
    command.args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    if !has_default_features {
        command.arg("--no-default-features");
    } else {
        command.args(["--features", if package == "skycache" { "kafka,otlp" } else { "kafka" }]);
    }
    let lines = output(&mut command)?;
    let pair = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    Ok(lines.lines().filter_map(pair).collect())
}

impl Release {
    fn cargo(&self) -> Command {
        let mut command = crate::cargo();
        command.current_dir(&self.workspace);
        command
    }

    fn checksums(&self) -> Result<BTreeMap<(String, String), String>, String> {
        let lock = String::from_utf8_lossy(&self.read("Cargo.lock")?).into_owned();
        let lock: toml::Table = lock.parse().map_err(|err| format!("Cargo.lock: {err}"))?;
        let packages = lock.get("package").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        let of = |package: &toml::Value| {
            let text = |name: &str| Some(package.get(name)?.as_str()?.to_owned());
            Some(((text("name")?, text("version")?), text("checksum")?))
        };
        Ok(packages.iter().filter_map(of).collect())
    }
}

impl Contents {
    /// Of the program of a package, as it is built for a target.
    pub(crate) fn of(
        release: &Release,
        (package, program): (&str, &'static str),
        triple: &str,
        has_default_features: bool,
    ) -> Result<Self, String> {
        let linked = linked(release, package, triple, has_default_features)?;
        let metadata = output(release.cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
        let metadata: Value =
            serde_json::from_str(&metadata).map_err(|err| format!("cargo metadata: {err}"))?;
        let checksums = release.checksums()?;
        let empty = Vec::new();
        let packages = metadata["packages"].as_array().unwrap_or(&empty);
        let of_id: BTreeMap<&str, (&str, &str)> =
            packages.iter().map(|it| (text(it, "id"), (text(it, "name"), text(it, "version")))).collect();
        let is_linked =
            |(name, version): &(&str, &str)| linked.contains(&((*name).to_owned(), (*version).to_owned()));
        let nodes = metadata["resolve"]["nodes"].as_array().unwrap_or(&empty);
        let needs: BTreeMap<&str, Vec<String>> = nodes
            .iter()
            .map(|node| {
                let ids = node["dependencies"].as_array().unwrap_or(&empty);
                let pairs = ids.iter().filter_map(|id| of_id.get(id.as_str()?)).filter(|it| is_linked(it));
                (text(node, "id"), pairs.map(|(name, version)| purl(name, version)).collect())
            })
            .collect();
        let part = |it: &Value| {
            let (name, version) = (text(it, "name").to_owned(), text(it, "version").to_owned());
            let hash = checksums.get(&(name.clone(), version.clone())).cloned();
            Part {
                purl: purl(&name, &version),
                // The old form of a choice.
                licence: text(it, "license").replace('/', " OR ").replace("  ", " "),
                hash: hash.map(|it| ("SHA-256", it)),
                folder: Path::new(text(it, "manifest_path")).parent().map(Path::to_owned),
                needs: needs.get(text(it, "id")).cloned().unwrap_or_default(),
                name,
                version,
            }
        };
        let mut parts: Vec<Part> = packages
            .iter()
            .filter(|it| is_linked(&(text(it, "name"), text(it, "version"))))
            .map(part)
            .collect();
        parts.push(Part {
            name: "std".to_owned(),
            version: toolchain::RUST.to_owned(),
            licence: LICENSE.to_owned(),
            purl: format!("pkg:generic/rust-std@{}", toolchain::RUST),
            hash: None,
            folder: None,
            needs: Vec::new(),
        });
        if program == "skycached" {
            parts.extend(players(release)?);
        }
        parts.sort_by(|a, b| a.purl.cmp(&b.purl));
        let own = purl(package, &release.version);
        let (version, created) = (release.version.clone(), release.created());
        Ok(Self { program, version, created, triple: triple.to_owned(), own, parts })
    }

    /// The document.
    pub(crate) fn to_json(&self) -> String {
        let component = |part: &Part| {
            let mut it = json!({
                "type": "library", "bom-ref": part.purl, "name": part.name, "version": part.version, "purl": part.purl,
                "licenses": [{ "expression": part.licence }],
            });
            if let Some((algorithm, digits)) = &part.hash {
                it["hashes"] = json!([{ "alg": algorithm, "content": digits }]);
            }
            it
        };
        let is_own = |part: &&Part| part.purl == self.own;
        let components: Vec<Value> = self.parts.iter().filter(|it| !is_own(it)).map(component).collect();
        let dependencies: Vec<Value> =
            self.parts.iter().map(|it| json!({ "ref": it.purl, "dependsOn": it.needs })).collect();
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": self.serial(),
            "version": 1,
            "metadata": {
                "timestamp": self.created,
                "tools": [{ "vendor": "Skycache", "name": "cargo xtask dist", "version": self.version }],
                "component": {
                    "type": "application", "bom-ref": self.own, "name": self.program, "version": self.version,
                    "purl": self.own, "licenses": [{ "expression": LICENSE }],
                },
                "properties": [{ "name": "cargo:target", "value": self.triple }],
            },
            "components": components,
            "dependencies": dependencies,
        });
        format!("{document:#}\n")
    }

    /// A UUID (version 8) of what is listed: the same list has the same.
    fn serial(&self) -> String {
        let mut text = format!("{} {} {}", self.program, self.version, self.triple);
        self.parts.iter().for_each(|it| text += &it.purl);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Digest::of(text.as_bytes()).0[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let hex: String = bytes.iter().map(|it| format!("{it:02x}")).collect();
        format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }

    /// All licence texts, each once, with the parts that it is of.
    pub(crate) fn licences(&self) -> Result<String, String> {
        let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut out = format!(
            "Parts of {} {} for {} and their licences. The texts follow; of two licences with OR between them either may be chosen.\n\n",
            self.program, self.version, self.triple
        );
        for part in &self.parts {
            let Part { name, version, licence, .. } = part;
            out += &format!("{name} {version}: {licence}\n");
            for (file, text) in part.texts()? {
                texts.entry(text).or_default().insert(format!("{name} {version} ({file})"));
            }
        }
        for (text, of) in texts {
            let of: Vec<String> = of.into_iter().collect();
            out += &format!("\n{}\n{}\n\n{}\n", "-".repeat(100), of.join(", "), text.trim());
        }
        Ok(out)
    }

    /// Adds both documents to a package.
    pub(crate) fn add(&self, tree: &mut Tree, folder: &str) -> Result<(), String> {
        tree.add_file(
            &format!("{folder}/{}.cdx.json.gz", self.program),
            0o644,
            gzip(self.to_json().as_bytes()),
        );
        tree.add_file(&format!("{folder}/third-party.txt.gz"), 0o644, gzip(self.licences()?.as_bytes()));
        Ok(())
    }
}

impl Part {
    /// Licence texts in its source, by file name.
    fn texts(&self) -> Result<Vec<(String, String)>, String> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let failed = |err: std::io::Error| format!("{}: {err}", folder.display());
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lower = name.to_ascii_lowercase();
            let is_licence = ["license", "licence", "copying", "copyright", "notice", "unlicense"]
                .iter()
                .any(|it| lower.starts_with(it));
            if is_licence && path.is_file() {
                texts.push((
                    name,
                    String::from_utf8_lossy(&std::fs::read(&path).map_err(failed)?).into_owned(),
                ));
            }
        }
        texts.sort();
        Ok(texts)
    }
}

/// The players of the page, which the daemon has inside; their licences are at `/-/licences.txt` too.
fn players(release: &Release) -> Result<Vec<Part>, String> {
    let lock: Value = serde_json::from_slice(&release.read("daemon/web/package-lock.json")?)
        .map_err(|err| format!("daemon/web/package-lock.json: {err}"))?;
    let top = &lock["packages"][""]["dependencies"];
    let mut names: Vec<String> = top.as_object().map(|it| it.keys().cloned().collect()).unwrap_or_default();
    let (mut parts, mut seen) = (Vec::new(), BTreeSet::new());
    while let Some(name) = names.pop() {
        let entry = &lock["packages"][format!("node_modules/{name}")];
        // The bundler is not part of the bundle.
        if name == "esbuild" || entry.is_null() || !seen.insert(name.clone()) {
            continue;
        }
        let needs: Vec<String> =
            entry["dependencies"].as_object().map(|it| it.keys().cloned().collect()).unwrap_or_default();
        let version =
            |name: &str| text(&lock["packages"][format!("node_modules/{name}")], "version").to_owned();
        let purl = |name: &str| format!("pkg:npm/{}@{}", name.replace('@', "%40"), version(name));
        parts.push(Part {
            version: version(&name),
            licence: text(entry, "license").to_owned(),
            purl: purl(&name),
            hash: sha512(text(entry, "integrity")).map(|it| ("SHA-512", it)),
            folder: None,
            needs: needs.iter().filter(|it| !version(it).is_empty()).map(|it| purl(it)).collect(),
            name,
        });
        names.extend(needs);
    }
    Ok(parts)
}

/// The digits of `sha512-BASE64`.
fn sha512(integrity: &str) -> Option<String> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut out) = (0_u32, 0, String::new());
    for byte in integrity.strip_prefix("sha512-")?.bytes().filter(|it| *it != b'=') {
        bits = bits << 6 | ALPHABET.iter().position(|it| *it == byte)? as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            out += &format!("{:02x}", bits >> count & 0xff);
        }
    }
    (out.len() == 128).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        let release = Release {
            version: "0.1.0".to_owned(),
            epoch_s: 1_795_219_200,
            workspace: crate::workspace(),
            out: PathBuf::new(),
            written: Default::default(),
        };
        Contents::of(&release, ("skycache", "skycached"), "x86_64-unknown-linux-gnu", true).unwrap()
    }

    #[test]
    fn an_independent_reader_takes_the_document_and_finds_everything_in_it() {
        use cyclonedx_bom::prelude::*;
        let document = contents();
        let json = document.to_json();
        assert_eq!(json, contents().to_json(), "the same bytes again");
        let bom = Bom::parse_from_json_v1_5(json.as_bytes()).unwrap();
        let result = bom.validate_version(SpecVersion::V1_5);
        assert!(result.passed(), "{result:?}");
        let components = bom.components.unwrap().0;
        let names: Vec<String> = components.iter().map(|it| it.name.to_string()).collect();
        for name in ["skycache-carousel", "hyper", "rustls", "ring", "quinn", "std", "hls.js"] {
            assert!(names.iter().any(|it| it == name), "{name} is linked: {names:?}");
        }
        for name in ["proptest", "serde_derive", "skycache-headend", "libfuzzer-sys", "tempfile"] {
            assert!(!names.iter().any(|it| it == name), "{name} is not");
        }
        let is_ours = |it: &Component| it.name.starts_with("skycache") || it.name.to_string() == "std";
        for it in components.iter().filter(|it| !is_ours(it)) {
            assert!(it.hashes.is_some(), "{} has a hash", it.name);
            assert!(it.licenses.is_some(), "{} has a licence", it.name);
        }
        let known: BTreeSet<&str> = document.parts.iter().map(|it| it.purl.as_str()).collect();
        let needs = document.parts.iter().flat_map(|it| &it.needs);
        assert!(needs.clone().count() > 100 && needs.clone().all(|it| known.contains(it.as_str())));
    }

    #[test]
    fn every_licence_has_its_text() {
        let contents = contents();
        let licences = contents.licences().unwrap();
        for part in &contents.parts {
            assert!(!part.licence.is_empty(), "{} has no licence", part.name);
            assert!(licences.contains(&format!("\n{} {}: ", part.name, part.version)), "{}", part.name);
        }
        for text in ["Permission is hereby granted", "TERMS AND CONDITIONS FOR USE, REPRODUCTION"] {
            assert!(licences.contains(text), "{text}");
        }
    }

    #[test]
    fn digests_of_npm_are_read() {
        let integrity = format!("sha512-{}==", "A".repeat(86));
        assert_eq!(sha512(&integrity), Some("00".repeat(64)));
        assert_eq!(sha512("sha1-AAAA"), None);
    }
}
