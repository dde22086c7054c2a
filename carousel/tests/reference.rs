//! Generation of `docs/reference/limits.md` from the sources: every `limits!`, every `reasons!` and every metric.
//!
//! The sources are scanned, rather than values collected at run time, because most limits are private to their module.
//! With `SKYCACHE_WRITE=1` in the environment the page is written; without, the test fails when the page in the repository
//! differs from what the sources say. It also fails when the test that a limit names does not exist.

// The page and the sources are files.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Constants that are not limits of ours, though named so: fields of formats, thresholds between two ways, lengths to which a text
/// is cut, and steps of our own. The document of each says which.
const NO_LIMITS: [&str; 84] = [
    "carousel::config MAX_MISTAKES",
    "carousel::dsmcc::message MAX_BLOCK_BYTES",
    "carousel::dsmcc::message MAX_MESSAGE_BYTES",
    "carousel::dsmcc::tree MAX_NAME_BYTES",
    "carousel::dvbi::guide::terms MAX_CREDITS",
    "carousel::dvbi::guide::terms MAX_KEYWORD",
    "carousel::dvbi::guide::terms MAX_KEYWORDS",
    "carousel::dvbi::guide::terms MAX_LANGUAGES",
    "carousel::dvbi::guide::terms MAX_NAME",
    "carousel::dvbi::guide::terms MAX_SYNOPSIS",
    "carousel::dvbi::guide::terms MAX_TITLE",
    "carousel::dvbi::guide::write MAX_SHOWINGS",
    "carousel::dvbi::guide::write MAX_WINDOW",
    "carousel::dvbi::list_write MAX_DESCRIPTION",
    "carousel::fec::code MAX_RAPTORQ_SYMBOLS",
    "carousel::fec::protection MAX_FAILURE",
    "carousel::fec::reed_solomon MAX_SYMBOLS",
    "carousel::gse MAX_DATA_FIELD_BITS",
    "carousel::gse MAX_GSE_LENGTH",
    "carousel::gse MAX_PDU_BYTES",
    "carousel::lct MAX_HEADER_BYTES",
    "carousel::manifest MAX_TARGET_MS",
    "carousel::mpe MAX_DATAGRAM_BYTES",
    "carousel::mpe MAX_IP_BYTES",
    "carousel::repair::back_off MAX_RETRY",
    "carousel::route::sender MAX_OFFSET",
    "carousel::route::template MAX_WIDTH",
    "carousel::ts::descriptor MAX_DATA_BYTES",
    "carousel::ts::rtp MAX_LATE_RUN",
    "carousel::ts::section MAX_PAYLOAD_BYTES",
    "carousel::ts::section MAX_SECTION_BYTES",
    "daemon::admin MAX_LOGGED_PATH",
    "daemon::admin::client MAX_WAIT_S",
    "daemon::caching::directives MAX_SECONDS",
    "daemon::caching::keep MAX_AGE_S",
    "daemon::caching::keep MAX_APPARENT_MS",
    "daemon::caching::keep MAX_HEURISTIC_S",
    "daemon::certificates MAX_NAMES",
    "daemon::doctor::network MAX_INTERFACES",
    "daemon::http::answer MAX_LOGGED_START",
    "daemon::http::prefetch MAX_MANIFESTS",
    "daemon::http::shown MAX_TEXT_BYTES",
    "daemon::logs MAX_TEXT_BYTES",
    "daemon::origin::connections MAX_CONNECT",
    "daemon::origin::connections MAX_IDLE",
    "daemon::origin::fetch MAX_OTHERS",
    "daemon::origin::parents MAX_LEFT_OUT",
    "daemon::origin::parents MAX_WEIGHT",
    "daemon::origin::policy MAX_COMPARED_BYTES",
    "daemon::qoe MAX_SKEW_MS",
    "daemon::qoe::session MAX_SPAN_MS",
    "daemon::receive::finishing MAX_WORKERS",
    "daemon::receive::write_behind MAX_RUNS",
    "daemon::replay MAX_STREAMS",
    "daemon::sampler MAX_ARRIVING",
    "daemon::session::options MAX_NEIGHBOURS",
    "daemon::source::batch MAX_BATCH",
    "daemon::transport::input::satip MAX_PIDS",
    "daemon::transport::input::satip MAX_TIMEOUT_S",
    "daemon::transport::modules MAX_HEAD_BYTES",
    "headend::air::descriptions MAX_FDT_SHARE",
    "headend::catalog::guide::collect MAX_GENRES",
    "headend::catalog::guide::episode MAX_NUMBER",
    "headend::catalog::guide::json MAX_DURATION_S",
    "headend::catalog::guide::json MAX_UNIX_S",
    "headend::catalog::guide::repair MAX_ENTITY_BYTES",
    "headend::catalog::guide::showing MAX_CREDITS",
    "headend::catalog::guide::showing MAX_LANGUAGES",
    "headend::catalog::guide::showing MAX_NAME_CHARS",
    "headend::catalog::guide::showing MAX_SYNOPSIS_CHARS",
    "headend::catalog::guide::showing MAX_TITLE_CHARS",
    "headend::catalog::guide::showing MAX_URL_BYTES",
    "headend::catalog::guide::showing MAX_WORDS",
    "headend::inspect::extract MAX_NAME_BYTES",
    "headend::pace MAX_BURST_NS",
    "headend::package::media::hevc MAX_REFERENCES",
    "headend::package::media::hevc MAX_REFERENCE_SETS",
    "headend::package::media::hevc MAX_SUB_LAYERS_MINUS1",
    "headend::package::media::ts MAX_STREAMS",
    "headend::package::refer MAX_NAMESAKES",
    "headend::pull MAX_BACK_OFF_S",
    "headend::pull MAX_READINGS",
    "headend::transmit MAX_SLEEP",
    "kafka::link MAX_PAUSE",
];
const CRATES: [&str; 3] = ["carousel", "headend", "daemon"];
/// Connections to Kafka, which both programs have.
const KAFKA: &str = "daemon/kafka";
const PAGE: &str = "docs/reference/limits.md";

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Doc(String),
    Text(String),
    Word(String),
    Sign(char),
}

/// Tokens of a piece of Rust: enough for the lists of the macros and for constant expressions.
fn tokens(source: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut chars = source.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            let line = rest.lines().next().unwrap_or_default();
            if let Some(doc) = line.strip_prefix("///") {
                out.push(Token::Doc(doc.trim().to_owned()));
            }
            while chars.peek().is_some_and(|&(next, _)| next < at + line.len()) {
                chars.next();
            }
        } else if c == '"' {
            let mut text = String::new();
            while let Some((_, c)) = chars.next() {
                match c {
                    '"' => break,
                    '\\' => match chars.next() {
                        Some((_, '\n')) => {
                            while chars.peek().is_some_and(|(_, c)| c.is_whitespace()) {
                                chars.next();
                            }
                        }
                        Some((_, c)) => text.push(c),
                        None => break,
                    },
                    c => text.push(c),
                }
            }
            out.push(Token::Text(text));
        } else if c.is_alphanumeric() || c == '_' {
            let word: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            while chars.peek().is_some_and(|&(next, _)| next < at + word.len()) {
                chars.next();
            }
            out.push(Token::Word(word));
        } else if !c.is_whitespace() {
            out.push(Token::Sign(c));
        }
    }
    out
}

/// The bodies of every `name! { … }` of a source file that stands at the beginning of a line.
fn bodies<'a>(source: &'a str, name: &str) -> Vec<&'a str> {
    let mut out = Vec::new();
    let mut from = 0;
    for line in source.split_inclusive('\n') {
        let start = from + line.len();
        from = start;
        let call = line.trim_end().strip_suffix('{').map(|it| it.trim_end().trim_start_matches("carousel::"));
        if call.and_then(|it| it.strip_suffix('!')) == Some(name) {
            let end =
                source[start..].find("\n}").expect("a macro call ends with } at the beginning of a line");
            out.push(&source[start..start + end]);
        }
    }
    out
}

#[derive(Debug, Clone)]
struct Limit {
    module: String,
    name: String,
    about: String,
    value: Vec<Token>,
    unit: String,
    why: String,
    full: String,
    free: String,
    test: String,
}

#[derive(Debug)]
struct Reasons {
    module: String,
    name: String,
    about: String,
    metric: Option<(String, String)>,
    /// Label and sentence.
    variants: Vec<(String, String)>,
}

/// Reads tokens one after the other.
struct Cursor<'a> {
    tokens: &'a [Token],
    at: usize,
    module: &'a str,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().unwrap_or_else(|| panic!("{}: a list is cut short", self.module)).clone();
        self.at += 1;
        token
    }

    fn docs(&mut self) -> String {
        let mut lines = Vec::new();
        while let Some(Token::Doc(line)) = self.peek() {
            lines.push(line.clone());
            self.at += 1;
        }
        lines.join(" ")
    }

    fn is_word(&self, word: &str) -> bool {
        self.peek() == Some(&Token::Word(word.to_owned()))
    }

    fn is_sign(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    fn skip_to_word(&mut self, word: &str) {
        while !self.is_word(word) {
            self.next();
        }
        self.next();
    }

    fn word(&mut self) -> String {
        match self.next() {
            Token::Word(word) => word,
            token => panic!("{}: a name was expected, not {token:?}", self.module),
        }
    }

    fn text(&mut self) -> String {
        match self.next() {
            Token::Text(text) => text,
            token => panic!("{}: a text was expected, not {token:?}", self.module),
        }
    }

    fn sign(&mut self, sign: char) {
        let token = self.next();
        assert_eq!(token, Token::Sign(sign), "{}", self.module);
    }

    fn field(&mut self, name: &str) -> String {
        assert_eq!(self.word(), name, "{}", self.module);
        self.sign(':');
        let text = self.text();
        self.sign(',');
        text
    }
}

fn read_limits(module: &str, body: &str, out: &mut Vec<Limit>) {
    let tokens = tokens(body);
    let mut cursor = Cursor { tokens: &tokens, at: 0, module };
    while cursor.peek().is_some() {
        let about = cursor.docs();
        cursor.skip_to_word("const");
        let name = cursor.word();
        while !cursor.is_sign('=') {
            cursor.next();
        }
        cursor.next();
        let mut value = Vec::new();
        while !(cursor.is_sign(',') && matches!(cursor.tokens.get(cursor.at + 1), Some(Token::Text(_)))) {
            value.push(cursor.next());
        }
        cursor.next();
        let unit = cursor.text();
        cursor.sign('{');
        let [why, full, free, test] = ["why", "full", "free", "test"].map(|it| cursor.field(it));
        cursor.sign('}');
        let module = module.to_owned();
        out.push(Limit { module, name, about, value, unit, why, full, free, test });
    }
}

fn read_reasons(module: &str, body: &str) -> Reasons {
    let tokens = tokens(body);
    let mut cursor = Cursor { tokens: &tokens, at: 0, module };
    let about = cursor.docs();
    cursor.skip_to_word("enum");
    let name = cursor.word();
    let mut metric = None;
    if cursor.is_word("in") {
        cursor.next();
        let family = cursor.text();
        cursor.skip_to_word("by");
        metric = Some((family, cursor.text()));
    }
    cursor.sign('{');
    let mut variants = Vec::new();
    while !cursor.is_sign('}') {
        let help = cursor.docs();
        cursor.word();
        cursor.sign('=');
        variants.push((cursor.text(), help));
        cursor.sign(',');
    }
    Reasons { module: module.to_owned(), name, about, metric, variants }
}

/// Values of constant expressions: integers, `<<`, `*`, `/`, `+`, `-`, other limits, and `Duration::from_…`.
struct Values<'a>(&'a BTreeMap<String, Vec<Token>>);

impl Values<'_> {
    /// Value and the unit that a `Duration` gives it.
    fn of(&self, value: &[Token]) -> (u128, Option<&'static str>) {
        if let [
            Token::Word(duration),
            Token::Sign(':'),
            Token::Sign(':'),
            Token::Word(from),
            Token::Sign('('),
            inner @ ..,
            Token::Sign(')'),
        ] = value
            && duration == "Duration"
        {
            let unit = match from.as_str() {
                "from_secs" => "s",
                "from_millis" => "ms",
                "from_micros" => "µs",
                "from_hours" => "h",
                "from_mins" => "min",
                other => panic!("Duration::{other} is not known here"),
            };
            return (self.of(inner).0, Some(unit));
        }
        let mut at = 0;
        let value = self.shifts(value, &mut at);
        (value, None)
    }

    fn shifts(&self, tokens: &[Token], at: &mut usize) -> u128 {
        let mut left = self.sums(tokens, at);
        while tokens.get(*at..*at + 2) == Some(&[Token::Sign('<'), Token::Sign('<')]) {
            *at += 2;
            left <<= self.sums(tokens, at);
        }
        left
    }

    fn sums(&self, tokens: &[Token], at: &mut usize) -> u128 {
        let mut left = self.products(tokens, at);
        while let Some(Token::Sign(sign @ ('+' | '-'))) = tokens.get(*at) {
            *at += 1;
            let right = self.products(tokens, at);
            left = if *sign == '+' { left + right } else { left - right };
        }
        left
    }

    fn products(&self, tokens: &[Token], at: &mut usize) -> u128 {
        let mut left = self.atom(tokens, at);
        while let Some(Token::Sign(sign @ ('*' | '/'))) = tokens.get(*at) {
            *at += 1;
            let right = self.atom(tokens, at);
            left = if *sign == '*' { left * right } else { left / right };
        }
        left
    }

    fn atom(&self, tokens: &[Token], at: &mut usize) -> u128 {
        let token = tokens.get(*at).unwrap_or_else(|| panic!("an expression ends early: {tokens:?}"));
        *at += 1;
        let value = match token {
            Token::Sign('(') => {
                let value = self.shifts(tokens, at);
                *at += 1;
                value
            }
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                let digits: String = word.chars().filter(char::is_ascii_digit).collect();
                digits.parse().unwrap_or_else(|_| panic!("{word} is not a number"))
            }
            Token::Word(word) => {
                // A path: its last part is the name.
                let mut name = word;
                while let Some([Token::Sign(':'), Token::Sign(':'), Token::Word(next)]) =
                    tokens.get(*at..*at + 3)
                {
                    *at += 3;
                    name = next;
                }
                let value = self.0.get(name).unwrap_or_else(|| panic!("{name} is not a limit"));
                self.of(value).0
            }
            token => panic!("{token:?} in a constant expression: {tokens:?}"),
        };
        if tokens.get(*at) == Some(&Token::Word("as".to_owned())) {
            *at += 2;
        }
        value
    }
}

fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn with_unit(value: u128, unit: &str) -> String {
    if unit == "bytes" {
        for (shift, name) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if value >= 1 << shift && value.is_multiple_of(1 << shift) {
                return format!("{} {name}", value >> shift);
            }
        }
    }
    format!("{} {unit}", grouped(value))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_owned()
}

/// Sources of a crate with their module paths, in order.
fn sources(folder: &Path, module: &str, out: &mut Vec<(String, String)>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().filter_map(|it| Some(it.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            sources(&path, &format!("{module}::{stem}"), out);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let name = if matches!(stem.as_str(), "mod" | "lib") {
                module.to_owned()
            } else {
                format!("{module}::{stem}")
            };
            out.push((name, fs::read_to_string(&path).expect("a source file is text")));
        }
    }
}

/// Name and help of the metrics that a module of `daemon/src/metrics` writes.
fn metrics(source: &str) -> Vec<(String, String)> {
    let tokens = tokens(source);
    let mut out = Vec::new();
    for pair in tokens.windows(3) {
        if let [Token::Text(name), Token::Sign(','), Token::Text(help)] = pair
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            && help.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit())
            && help.contains(' ')
        {
            out.push((name.clone(), help.clone()));
        }
    }
    // `let help = "…";` before `encode_descriptor("name", help, …)`.
    let mut help = None;
    for window in tokens.windows(4) {
        match window {
            [Token::Word(word), Token::Sign('='), Token::Text(text), Token::Sign(';')] if word == "help" => {
                help = Some(text.clone());
            }
            [Token::Sign('('), Token::Text(name), Token::Sign(','), Token::Word(word)] if word == "help" => {
                if let Some(help) = help.take() {
                    out.push((name.clone(), help));
                }
            }
            _ => {}
        }
    }
    out.sort();
    out.dedup();
    out
}

fn page() -> String {
    let root = workspace();
    let mut all = Vec::new();
    for name in CRATES {
        sources(&root.join(name).join("src"), name, &mut all);
    }
    sources(&root.join(KAFKA).join("src"), "kafka", &mut all);
    let (mut limits, mut reasons) = (Vec::new(), Vec::new());
    for (module, source) in all.iter().filter(|(module, _)| module != "carousel::reason") {
        for body in bodies(source, "limits") {
            read_limits(module, body, &mut limits);
        }
        reasons.extend(bodies(source, "reasons").into_iter().map(|body| read_reasons(module, body)));
    }
    let all_text: String = all.iter().map(|(_, source)| source.as_str()).collect();
    let stories: String = {
        let mut out = Vec::new();
        for folder in ["tests/tests", "daemon/tests", "carousel/tests"] {
            sources(&root.join(folder), "tests", &mut out);
        }
        out.into_iter().map(|(_, source)| source).collect()
    };
    let mut out = String::from(
        "# Limits, reasons and metrics\n\n\
        Generated from the sources by `cargo xtask reference`: edit the `limits!` and `reasons!` there.\n\n\
        ## Limits\n\n\
        What the outside can fill is bounded. *Full* says what happens at the limit, *free* when the place is free again.\n",
    );
    let mut untested = Vec::new();
    for name in CRATES {
        let of_crate: Vec<&Limit> =
            limits.iter().filter(|it| it.module.split("::").next() == Some(name)).collect();
        if of_crate.is_empty() {
            continue;
        }
        let _ = write!(out, "\n### {name}\n\n| limit | value | why | full | free |\n|---|---|---|---|---|\n");
        for limit in of_crate {
            let known: BTreeMap<String, Vec<Token>> = limits
                .iter()
                .filter(|it| it.module != limit.module)
                .chain(limits.iter().filter(|it| it.module == limit.module))
                .map(|it| (it.name.clone(), it.value.clone()))
                .collect();
            let (value, unit) = Values(&known).of(&limit.value);
            let value = with_unit(value, unit.unwrap_or(&limit.unit));
            let module = limit.module.strip_prefix("carousel::limits").map_or(limit.module.as_str(), |_| "");
            let place = if module.is_empty() { String::new() } else { format!("<br>`{module}`") };
            let cells = [&limit.about, &limit.why, &limit.full, &limit.free].map(|it| it.replace('|', "\\|"));
            let [about, why, full, free] = cells;
            let _ =
                writeln!(out, "| `{}`{place}<br>{about} | {value} | {why} | {full} | {free} |", limit.name);
            let test = limit.test.rsplit("::").next().unwrap_or_default();
            let exists = [&all_text, &stories].iter().any(|it| it.contains(&format!("fn {test}(")));
            if test == "none" {
                untested.push(format!("`{}`", limit.name));
                continue;
            }
            assert!(exists, "{}::{}: there is no test {test}", limit.module, limit.name);
        }
    }
    if !untested.is_empty() {
        let _ = write!(out, "\nNot reached by a test yet: {}.\n", untested.join(", "));
    }
    out.push_str("\n## Reasons\n\nLabels of counters, in metrics, status, JSON and logs.\n");
    for it in &reasons {
        let _ = write!(out, "\n### {} (`{}`)\n\n{}", it.name, it.module, it.about);
        if let Some((family, label)) = &it.metric {
            let _ = write!(out, " Counted by `skycache_{family}_total{{{label}=…}}`.");
        }
        out.push_str("\n\n| label | meaning |\n|---|---|\n");
        for (label, help) in &it.variants {
            let _ = writeln!(out, "| `{label}` | {} |", help.replace('|', "\\|"));
        }
    }
    out.push_str(
        "\n## Metrics\n\nOf `skycached`, at `/metrics` of its admin interface; counters end in `_total`.\n\n",
    );
    out.push_str("| metric | meaning |\n|---|---|\n");
    let is_metrics = |module: &str| module == "daemon::metrics" || module.starts_with("daemon::metrics::");
    let mut found: Vec<_> =
        all.iter().filter(|(module, _)| is_metrics(module)).flat_map(|(_, source)| metrics(source)).collect();
    found.sort();
    found.dedup();
    for (name, help) in found {
        // Metrics of the process have the names that client libraries of Prometheus use.
        let prefix = if name.starts_with("process_") { "" } else { "skycache_" };
        let _ = writeln!(out, "| `{prefix}{name}` | {help} |");
    }
    out
}

#[test]
fn the_reference_page_says_what_the_sources_say() {
    let (path, page) = (workspace().join(PAGE), page());
    if std::env::var_os("SKYCACHE_WRITE").is_some() {
        fs::create_dir_all(path.parent().expect("docs/reference")).expect("the folder can be made");
        fs::write(&path, &page).expect("the page can be written");
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = page.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert!(
        page == committed,
        "{PAGE} is out of date: run `cargo xtask reference`. First difference: {differs:?}"
    );
}

/// A limit outside `limits!` would be missing in the page.
#[test]
fn every_limit_is_in_the_table() {
    let mut all = Vec::new();
    for name in CRATES {
        sources(&workspace().join(name).join("src"), name, &mut all);
    }
    sources(&workspace().join(KAFKA).join("src"), "kafka", &mut all);
    let mut outside = Vec::new();
    for (module, source) in &all {
        let inside: String = bodies(source, "limits").concat();
        for line in source.lines().filter(|line| !line.trim_start().starts_with("//")) {
            if let Some((_, name)) = line.split_once("const MAX_").filter(|_| !inside.contains(line)) {
                let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                outside.push(format!("{module} MAX_{name}"));
            }
        }
    }
    outside.sort();
    assert_eq!(outside, NO_LIMITS, "put these into limits!, or name them above if they are none");
}

#[test]
fn expressions_are_evaluated_as_rust_does() {
    let known = BTreeMap::from([("MAX_A".to_owned(), tokens("4 * 1_024"))]);
    for (text, value) in
        [("2 << 10", 2048), ("MAX_A / 64", 64), ("3 + 4 * (2 - 1)", 7), ("limits::MAX_A as u64", 4096)]
    {
        assert_eq!(Values(&known).of(&tokens(text)).0, value, "{text}");
    }
    assert_eq!(Values(&known).of(&tokens("Duration::from_secs(60)")), (60, Some("s")));
    assert_eq!(
        (with_unit(8 << 20, "bytes"), with_unit(131_072, "files")),
        ("8 MiB".into(), "131,072 files".into())
    );
}
