//! Pages of every configuration key, made from the types that read them: names and sentences from the sources of the `options`,
//! defaults from the types' own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use carousel::config::quantity::unit_of;
use syn::{Attribute, Expr, Fields, Item, ItemEnum, ItemStruct, Lit, Meta, Type};

use crate::workspace;

/// Sources of the daemon's tables.
const DAEMON: [&str; 17] = [
    "daemon/src/config.rs",
    "daemon/src/session/options.rs",
    "daemon/src/transport/options.rs",
    "daemon/src/store/options.rs",
    "daemon/src/store/format.rs",
    "daemon/src/http/options.rs",
    "daemon/src/origin",
    "daemon/src/origin/signing/mod.rs",
    "daemon/src/repair/options.rs",
    "daemon/src/admin/options.rs",
    "daemon/src/trust/options.rs",
    "daemon/src/commands/options.rs",
    "daemon/src/firmware/options.rs",
    "daemon/src/access/options.rs",
    "daemon/src/kafka/options.rs",
    "daemon/kafka/src/options.rs",
    "daemon/src/traces/options.rs",
];
const HEADEND: [&str; 3] = ["headend/src/config.rs", "headend/src/options", "daemon/kafka/src/options.rs"];
/// Types that both take from the formats.
const SHARED: [&str; 3] =
    ["carousel/src/eviction.rs", "carousel/src/dvbi/list.rs", "carousel/src/dvbi/edition.rs"];

/// A configuration with every table of the daemon once, for what is the default inside.
const DAEMON_SAMPLE: &str = "[[session]]\naddress = '239.1.2.3:5000'\n[[transport_stream]]\nfrom = 'dvb://0'\n\
[transport_stream.carrier]\nfrequency_khz = 11727500\npolarization = 'vertical'\nsymbol_rate_ksps = 27500\n\
[[store.class]]\nbase = 'x'\nclass = 'low'\n[http.tls]\nlisten = '0.0.0.0:8443'\ncertificate = 'c'\nkey = 'k'\n\
[http.access_log]\npath = 'p'\n[http.rendezvous]\nhosts = ['h']\n[http.steering]\n[[route]]\npath = '/vod/'\nbase = 'http://h/'\n[route.sign]\nform = 'bunny'\nsecret_file = 'x'\n[[origin]]\nhost = 'h'\nurl = 'http://o'\n\
[[parent]]\nname = 'x'\n[[parent.member]]\nurl = 'http://p'\n[parent.member.sign]\nform = 'bunny'\nsecret_file = 'x'\n\
[[service]]\nid = 'x'\n[[trust.service]]\nid = 'x'\n[[access]]\nname = 'x'\n[kafka]\nbrokers = ['x:1']\n[kafka.tls]\n\
[kafka.sasl]\nmechanism = 'scram-sha-512'\nuser = 'x'\npassword_file = 'x'\n[traces]\nendpoint = 'http://x'\n";
const HEADEND_SAMPLE: &str = "[link]\nrate_bps = 10000000\n[link.dvb_s2]\nmodulation = '8PSK'\nfec = '3/4'\nsymbol_rate_ksps = 1\n\
[multiplex]\n[nip.carrier]\nfrequency_10khz = 1\npolarization = 'x'\nmodulation = 'x'\nroll_off = '0.20'\nsymbol_rate_ksps = 1\nfec = '3/4'\n\
[[nip.service_lists]]\nname = 'x'\nuri = 'x'\n[dvb_i]\n[[dvb_i.regions]]\nid = 'x'\ncountries = ['LUX']\n[[dvb_i.lcn]]\nregions = ['x']\nchannels = { x = 1 }\n\
[fec.high]\ncode = 'raptorq'\n[fec.medium]\ncode = 'raptorq'\n[fec.low]\ncode = 'raptorq'\n[[forecast]]\nname = 'x'\n[simulation.viewing]\n[[simulation.fade]]\nregions = [0]\nbegin_s = 0\nlasts_s = 1\n\
[ingest]\nlisten = '127.0.0.1:1'\n[[source]]\npath = '/y'\nbase = 'http://h/y/'\npull = 's3://bucket/'\n[source.s3]\n[source.events]\nbrokers = ['x:1']\ntopic = 'x'\n[source.events.tls]\n[source.events.sasl]\nmechanism = 'scram-sha-512'\nuser = 'x'\npassword_file = 'x'\n[source.service]\n[[source.service.available]]\n\
[[source]]\npath = '/x'\nbase = 'http://h/x/'\nname = 'x'\ningest = true\n[signing]\nkeys = 'x'\n[firmware]\nbase = 'http://h/'\n";

/// Name and text of both pages.
///
/// # Errors
/// A source that cannot be read, or a type that the generator does not know.
pub(crate) fn pages() -> Result<Vec<(&'static str, String)>, String> {
    let told = |mistakes: Vec<carousel::config::Mistake>| format!("the sample: {mistakes:?}");
    let daemon = skycache::config::Config::parse(DAEMON_SAMPLE).map_err(told)?.to_toml()?;
    let headend = headend::config::Config::parse(HEADEND_SAMPLE, Path::new("/")).map_err(told)?.to_toml()?;
    Ok(vec![
        ("configuration-skycached.md", page("skycached", &DAEMON, &daemon)?),
        ("configuration-headend.md", page("headend", &HEADEND, &headend)?),
    ])
}

/// Types by name.
#[derive(Default)]
struct Types {
    structs: BTreeMap<String, ItemStruct>,
    enums: BTreeMap<String, ItemEnum>,
}

impl Types {
    fn read(paths: &[&str]) -> Result<Self, String> {
        let mut types = Self::default();
        for path in SHARED.iter().chain(paths) {
            let whole = workspace().join(path);
            let files = if whole.is_dir() {
                let entries = fs::read_dir(&whole).map_err(|err| format!("{path}: {err}"))?;
                let mut files: Vec<_> = entries.flatten().map(|it| it.path()).collect();
                files.retain(|it| it.extension().is_some_and(|it| it == "rs"));
                files.sort();
                files
            } else {
                vec![whole]
            };
            for file in files {
                let text = fs::read_to_string(&file).map_err(|err| format!("{}: {err}", file.display()))?;
                let parsed = syn::parse_file(&text).map_err(|err| format!("{}: {err}", file.display()))?;
                for item in parsed.items {
                    match item {
                        // What the formats share has structures of its own with the same names.
                        Item::Struct(it) if !SHARED.contains(path) => {
                            types.structs.insert(it.ident.to_string(), it);
                        }
                        Item::Enum(it) => _ = types.enums.insert(it.ident.to_string(), it),
                        _ => {}
                    }
                }
            }
        }
        Ok(types)
    }
}

/// Sentences of a doc comment, in one line.
fn doc(attributes: &[Attribute]) -> String {
    let mut out = String::new();
    for attribute in attributes {
        if let Meta::NameValue(pair) = &attribute.meta
            && pair.path.is_ident("doc")
            && let Expr::Lit(literal) = &pair.value
            && let Lit::Str(text) = &literal.lit
        {
            let text = text.value();
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(text.trim());
        }
    }
    plain(&out)
}

/// Links of rustdoc as plain code.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

/// The value of `name = "…"` in `#[serde(…)]`; an empty text where the name stands alone.
fn serde(attributes: &[Attribute], name: &str) -> Option<String> {
    let mut found = None;
    for attribute in attributes.iter().filter(|it| it.path().is_ident("serde")) {
        // Attributes of another form are not ours.
        let _ = attribute.parse_nested_meta(|meta| {
            let value =
                meta.value().and_then(syn::parse::ParseBuffer::parse::<syn::LitStr>).map(|it| it.value());
            if meta.path.is_ident(name) {
                found = Some(value.unwrap_or_default());
            }
            Ok(())
        });
    }
    found
}

/// The last part of a path, and what it is of: `Option<T>` gives `Option` and `T`.
fn name_of(kind: &Type) -> (String, Option<&Type>) {
    let Type::Path(path) = kind else { return (String::new(), None) };
    let Some(last) = path.path.segments.last() else { return (String::new(), None) };
    let inner = match &last.arguments {
        syn::PathArguments::AngleBracketed(list) => list.args.iter().rev().find_map(|it| match it {
            syn::GenericArgument::Type(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    };
    (last.ident.to_string(), inner)
}

fn page(program: &str, paths: &[&str], defaults: &str) -> Result<String, String> {
    let types = Types::read(paths)?;
    let defaults: toml::Table = toml::from_str(defaults).map_err(|err| err.to_string())?;
    let mut out = format!(
        "# Configuration of {program}\n\nGenerated by `cargo xtask docs` from the code that reads it. Every table and key may be left out \
         unless it is said to be required.\n\nThe unit of a number is in the name of its key. Instead of the number, text with a unit \
         is taken: `\"8 Mbit/s\"`, `\"10 GB\"`, `\"4 s\"`, `\"27.5 Msym/s\"`. Decimal prefixes are powers of 1000, `KiB` and the like \
         of 1024.\n"
    );
    let root = types.structs.get("Config").ok_or("no struct Config")?;
    table(&mut out, &types, root, ("", ""), &toml::Value::Table(defaults), false)?;
    Ok(out)
}

/// One row, or a table below.
struct Field<'a> {
    key: String,
    doc: String,
    kind: &'a Type,
    is_required: bool,
    is_list: bool,
}

fn fields<'a>(item: &'a ItemStruct) -> Vec<Field<'a>> {
    let has_default = serde(&item.attrs, "default").is_some();
    let Fields::Named(named) = &item.fields else { return Vec::new() };
    let mut all = Vec::new();
    for field in &named.named {
        if serde(&field.attrs, "skip").is_some() {
            continue;
        }
        let (outer, inner) = name_of(&field.ty);
        let (is_option, is_list) = (outer == "Option", outer == "Vec");
        let ident = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        all.push(Field {
            key: serde(&field.attrs, "rename").unwrap_or(ident),
            doc: doc(&field.attrs),
            kind: inner.filter(|_| is_option || is_list).unwrap_or(&field.ty),
            is_required: !has_default && !is_option && serde(&field.attrs, "default").is_none(),
            is_list,
        });
    }
    all
}

fn table(
    out: &mut String,
    types: &Types,
    item: &ItemStruct,
    (path, said): (&str, &str),
    defaults: &toml::Value,
    is_list: bool,
) -> Result<(), String> {
    let (mut rows, mut below) = (String::new(), Vec::new());
    for field in fields(item) {
        let (name, _) = name_of(field.kind);
        let default = defaults.get(&field.key);
        // A region contains regions; a destination is written as a URL.
        let is_value = matches!(name.as_str(), "RegionConfig" | "Destination" | "Cost");
        if let Some(inner) = types.structs.get(&name).filter(|_| !is_value) {
            below.push((field, inner));
            continue;
        }
        let value = value_of(types, &field)?;
        let default = match default {
            _ if field.is_required => "required".to_owned(),
            Some(toml::Value::Array(_)) if is_sample(path, &field.key) => "`[]`".to_owned(),
            Some(_) if is_sample(path, &field.key) => String::new(),
            Some(toml::Value::String(text)) if text.is_empty() => "empty".to_owned(),
            Some(value) => format!("`{}`", value.to_string().replace('|', "\\|")),
            None => String::new(),
        };
        let _ = writeln!(rows, "| `{}` | {value} | {default} | {} |", field.key, field.doc);
    }
    if !path.is_empty() {
        let brackets = if is_list { ("[[", "]]") } else { ("[", "]") };
        let _ = writeln!(out, "\n## {}{path}{}\n\n{said}", brackets.0, brackets.1);
    }
    if !rows.is_empty() {
        let _ = write!(out, "\n| key | value | default | meaning |\n|---|---|---|---|\n{rows}");
    }
    for (field, inner) in below {
        let path = if path.is_empty() { field.key.clone() } else { format!("{path}.{}", field.key) };
        let empty = toml::Value::Table(toml::Table::new());
        let mut own = defaults.get(&field.key).unwrap_or(&empty);
        if let toml::Value::Array(list) = own {
            own = list.first().unwrap_or(&empty);
        }
        // The sentence of the type, unless it is only the table's name: then that of the field.
        let of_type = doc(&inner.attrs);
        let is_name = of_type.ends_with('`') && of_type.matches('`').count() == 2;
        let said = if is_name { &field.doc } else { &of_type };
        table(out, types, inner, (&path, said), own, field.is_list)?;
    }
    Ok(())
}

/// Keys whose value in the sample stands for a required one of another table.
fn is_sample(path: &str, key: &str) -> bool {
    matches!(
        (path, key),
        ("link", "rate_bps")
            | ("access", "name")
            | ("kafka" | "source.events", "brokers")
            | ("traces", "endpoint")
            | ("source", "name" | "service_id" | "ingest" | "pull")
            | ("dvb_i", "base" | "id" | "regions")
    )
}

/// Values of a key, in words.
fn value_of(types: &Types, field: &Field<'_>) -> Result<String, String> {
    let (name, inner) = name_of(field.kind);
    let key = field.key.as_str();
    let one = match name.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" | "f64" | "Cost" => match unit_of(key) {
            Some(unit) => format!("number, or text such as `\"{}\"`", unit.text),
            None => "number".to_owned(),
        },
        "bool" => "`true` or `false`".to_owned(),
        "String" => "text".to_owned(),
        "PathBuf" => "path".to_owned(),
        "SocketAddr" => "address with port".to_owned(),
        "IpAddr" => "address".to_owned(),
        "Texts" => "text, or a table of texts by language".to_owned(),
        "IgnoreQuery" => "`true`, `false`, or a list of names".to_owned(),
        "From" | "Destination" => "URL".to_owned(),
        "Oui" => "OUI such as `\"00-15-0A\"`".to_owned(),
        "Edition" => "`r0` to `r8`".to_owned(),
        "RegionConfig" => "table".to_owned(),
        "BTreeMap" => {
            let is_text = inner.is_some_and(|it| name_of(it).0 == "String");
            if is_text { "table of texts by name".to_owned() } else { "table of numbers by name".to_owned() }
        }
        "Vec" => {
            let of = inner.map_or_else(String::new, |it| name_of(it).0);
            if matches!(of.as_str(), "String" | "Oui") {
                "list of texts".to_owned()
            } else {
                "list".to_owned()
            }
        }
        "" => "list of two values".to_owned(),
        name => match types.enums.get(name) {
            Some(item) => variants(item),
            None => {
                return Err(format!(
                    "the generator of configuration pages does not know the type {name} of {key}"
                ));
            }
        },
    };
    Ok(match (field.is_list, one.as_str()) {
        (false, _) => one,
        (true, "address with port") if key == "listen" || key == "announcement" => {
            "address with port, or a list".to_owned()
        }
        (true, one) => format!("list: {one}"),
    })
}

fn variants(item: &ItemEnum) -> String {
    let attributes: Vec<Attribute> = item.attrs.iter().flat_map(unconditional).collect();
    let style = serde(&attributes, "rename_all").unwrap_or_default();
    let names = item.variants.iter().map(|variant| {
        let ident = variant.ident.to_string();
        let name = serde(&variant.attrs, "rename").unwrap_or_else(|| match style.as_str() {
            "kebab-case" => kebab(&ident),
            "snake_case" => kebab(&ident).replace('-', "_"),
            "lowercase" => ident.to_lowercase(),
            _ => ident,
        });
        format!("`\"{name}\"`")
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Content of `cfg_attr`, or of an attribute without it.
fn unconditional(attribute: &Attribute) -> Vec<Attribute> {
    if !attribute.path().is_ident("cfg_attr") {
        return vec![attribute.clone()];
    }
    let Meta::List(list) = &attribute.meta else { return Vec::new() };
    let parser = syn::punctuated::Punctuated::<Meta, syn::Token![,]>::parse_terminated;
    let parts = list.parse_args_with(parser).unwrap_or_default();
    let kept = parts.into_iter().filter(|it| it.path().is_ident("serde"));
    kept.map(|meta| Attribute { meta, ..attribute.clone() }).collect()
}

fn kebab(ident: &str) -> String {
    let mut out = String::new();
    for (at, c) in ident.chars().enumerate() {
        if c.is_ascii_uppercase() && at > 0 {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_and_key_has_its_row_and_a_sentence() {
        let pages = pages().unwrap();
        for (name, part) in [
            (0, "## [http]\n"),
            (0, "## [[transport_stream]]\n"),
            (0, "## [transport_stream.carrier.lnb]\n"),
            (0, "| `eviction` | `\"lru\"`, `\"sieve\"`, `\"s3-fifo\"` | `\"s3-fifo\"` |"),
            (0, "| `wait_ms` | number, or text such as `\"4 s\"` | `10000` |"),
            (0, "| `listen` | address with port, or a list |"),
            (1, "## [[source]]\n"),
            (1, "| `path` | path | required |"),
            (1, "| `edition` | `r0` to `r8` |"),
        ] {
            assert!(pages[name].1.contains(part), "{part}\n{}", pages[name].1);
        }
        for (_, page) in &pages {
            for row in page.lines().filter(|it| it.starts_with("| `")) {
                assert!(!row.ends_with("|  |"), "no sentence says what this is: {row}");
            }
        }
    }

    /// `TABLE KEY` of every row of the pages, and `TABLE` alone.
    fn known() -> std::collections::BTreeSet<String> {
        let mut all = std::collections::BTreeSet::new();
        for (_, page) in pages().unwrap() {
            let mut table = "";
            for line in page.lines() {
                if let Some(heading) = line.strip_prefix("## [") {
                    table = heading.trim_matches(['[', ']']);
                    all.insert(table.to_owned());
                } else if let Some((key, _)) = line.strip_prefix("| `").and_then(|it| it.split_once('`')) {
                    all.insert(format!("{table} {key}"));
                }
            }
        }
        all
    }

    #[test]
    fn the_migration_page_names_keys_that_there_are() {
        let known = known();
        let text = fs::read_to_string(workspace().join("docs/migration.md")).unwrap();
        let rows = text.lines().filter(|it| it.starts_with("| "));
        let written = rows.flat_map(|it| it.split('`').skip(1).step_by(2)).filter(|it| it.starts_with('['));
        let keys: Vec<String> = written
            .map(|it| it.trim_start_matches('[').replacen(']', " ", 1).replacen(']', "", 1))
            .map(|it| it.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
            .collect();
        assert!(keys.len() > 100, "{}", keys.len());
        let wrong: Vec<&String> = keys.iter().filter(|it| !known.contains(*it)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
