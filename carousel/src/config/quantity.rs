//! Sizes, rates and times in configuration files as people write them: `"8 Mbit/s"`, `"10 GB"`, `"4 s"`.
//!
//! The unit of a key is in its name: `rate_bps`, `quota_bytes`, `wait_ms`. A plain number is in that unit; text may have any unit
//! of the same kind. [`convert`] replaces such text by the number before TOML is parsed, so that every key of both programs
//! accepts it without a type of its own. Decimal prefixes (SI) are powers of 1000, binary ones (`KiB`) of 1024.

use std::fmt;
use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use super::{Mistake, line_and_column};

/// A value with a decimal prefix and one digit behind the point, as `1.2 MB`; below 1000 without either.
pub fn scaled(value: f64, unit: &str) -> String {
    let scales = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match scales.iter().find(|(size, _)| value >= *size) {
        Some((size, prefix)) => format!("{:.1} {prefix}{unit}", value / size),
        None => format!("{value:.0} {unit}"),
    }
}

/// `1,800`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Quantity that a number stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bits a second.
    Rate,
    /// Bytes.
    Size,
    /// Bytes a second.
    Throughput,
    /// Bytes a day.
    Budget,
    /// Milliseconds.
    Time,
    /// Hertz.
    Frequency,
    /// Symbols a second.
    SymbolRate,
    /// Hundredths.
    Percentage,
}

impl Kind {
    /// Name in messages.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "a rate",
            Self::Size => "a size",
            Self::Throughput => "a rate in bytes",
            Self::Budget => "an amount a day",
            Self::Time => "a time",
            Self::Frequency => "a frequency",
            Self::SymbolRate => "a symbol rate",
            Self::Percentage => "a percentage",
        }
    }

    /// Units with their size in the kind's smallest one.
    const fn units(self) -> &'static [(&'static str, u128)] {
        match self {
            Self::Rate => &[
                ("bit/s", 1),
                ("kbit/s", 1_000),
                ("Mbit/s", 1_000_000),
                ("Gbit/s", 1_000_000_000),
                ("Tbit/s", 1_000_000_000_000),
                ("bps", 1),
                ("kbps", 1_000),
                ("Mbps", 1_000_000),
                ("Gbps", 1_000_000_000),
                ("Mb/s", 1_000_000),
                ("Gb/s", 1_000_000_000),
            ],
            Self::Size => &SIZES,
            Self::Throughput => &THROUGHPUTS,
            Self::Budget => &BUDGETS,
            Self::Time => &[
                ("ms", 1),
                ("s", 1000),
                ("min", 60_000),
                ("h", 3_600_000),
                ("d", 86_400_000),
                ("day", 86_400_000),
                ("days", 86_400_000),
            ],
            Self::Frequency => &[("Hz", 1), ("kHz", 1_000), ("MHz", 1_000_000), ("GHz", 1_000_000_000)],
            Self::SymbolRate => &[
                ("sym/s", 1),
                ("ksym/s", 1_000),
                ("Msym/s", 1_000_000),
                ("Bd", 1),
                ("kBd", 1_000),
                ("MBd", 1_000_000),
            ],
            Self::Percentage => &[("%", 1)],
        }
    }

    const ALL: [Self; 8] = [
        Self::Rate,
        Self::Size,
        Self::Throughput,
        Self::Budget,
        Self::Time,
        Self::Frequency,
        Self::SymbolRate,
        Self::Percentage,
    ];
}

const SIZES: [(&str, u128); 11] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];
const THROUGHPUTS: [(&str, u128); 5] =
    [("B/s", 1), ("kB/s", 1_000), ("MB/s", 1_000_000), ("MiB/s", 1 << 20), ("GB/s", 1_000_000_000)];
const BUDGETS: [(&str, u128); 6] = [
    ("kB/day", 1_000),
    ("MB/day", 1_000_000),
    ("GB/day", 1_000_000_000),
    ("TB/day", 1_000_000_000_000),
    ("GiB/day", 1 << 30),
    ("MiB/day", 1 << 20),
];

/// The unit of a key: what it counts, how large it is in the kind's smallest unit, and an example of a value as a number and as
/// text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Quantity that it counts.
    pub kind: Kind,
    scale: u128,
    /// A number in this unit.
    pub number: &'static str,
    /// The same as text.
    pub text: &'static str,
}

/// Suffixes of keys, longer ones before those that they end with.
const SUFFIXES: [(&str, Unit); 13] = {
    const fn unit(kind: Kind, scale: u128, number: &'static str, text: &'static str) -> Unit {
        Unit { kind, scale, number, text }
    }
    [
        ("_bytes_per_day", unit(Kind::Budget, 1, "20_000_000_000", "20 GB/day")),
        ("_bytes_per_s", unit(Kind::Throughput, 1, "4_000_000", "4 MB/s")),
        ("_bps", unit(Kind::Rate, 1, "8_000_000", "8 Mbit/s")),
        ("_bytes", unit(Kind::Size, 1, "10_000_000_000", "10 GB")),
        ("_ms", unit(Kind::Time, 1, "4000", "4 s")),
        ("_s", unit(Kind::Time, 1000, "3600", "1 h")),
        ("_10khz", unit(Kind::Frequency, 10_000, "1_172_750", "11727.5 MHz")),
        ("_khz", unit(Kind::Frequency, 1_000, "11_727_500", "11727.5 MHz")),
        ("_mhz", unit(Kind::Frequency, 1_000_000, "9750", "9.75 GHz")),
        ("_ksps", unit(Kind::SymbolRate, 1_000, "27_500", "27.5 Msym/s")),
        ("_percent", unit(Kind::Percentage, 1, "10", "10 %")),
        ("_hz", unit(Kind::Frequency, 1, "48_000", "48 kHz")),
        ("_days", unit(Kind::Time, 86_400_000, "7", "7 days")),
    ]
};

/// The unit that the name of a key ends with.
pub fn unit_of(key: &str) -> Option<Unit> {
    SUFFIXES.iter().find(|(suffix, _)| key.ends_with(suffix)).map(|(_, unit)| *unit)
}

/// A number with commas, of thousands if three digits follow each of them, else for a decimal point, as TOML has it.
pub(super) fn without_commas(number: &str) -> String {
    let is_of_thousands = number.split(',').skip(1).all(|group| group.len() == 3);
    if is_of_thousands { number.replace(',', "") } else { number.replace(',', ".") }
}

/// The unit that a name differs from in case, or by a missing `/s`: `mbit/s`, `8 Gbit`.
fn meant(name: &str, kind: Kind) -> Option<&'static str> {
    let is_meant = |known: &str| {
        let rest = known.strip_suffix("/s").unwrap_or(known);
        !known.is_empty() && (known.eq_ignore_ascii_case(name) || rest.eq_ignore_ascii_case(name))
    };
    kind.units().iter().map(|(known, _)| *known).find(|known| is_meant(known))
}

/// Mistake of a text that should be a quantity. Shown as words that follow the text: `is a size`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuantityError {
    /// It does not begin with a number. Without words, since what is expected says it.
    NotANumber,
    /// It is a quantity of another kind.
    OtherKind(Kind),
    /// Its number has commas: as it should be written.
    Comma(String),
    /// It has a unit that is not known, with the one that is meant.
    Unit(String, Option<&'static str>),
    /// It is too large.
    TooLarge,
}

impl fmt::Display for QuantityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotANumber => Ok(()),
            Self::OtherKind(kind) => write!(f, "is {}", kind.as_str()),
            Self::Comma(right) => write!(f, "has a comma: write {right}"),
            Self::Unit(name, Some(meant)) => write!(f, "has no unit \"{name}\": write {meant}"),
            Self::Unit(name, None) => write!(f, "has no unit that is known here: \"{name}\""),
            Self::TooLarge => f.write_str("is too large"),
        }
    }
}

impl std::error::Error for QuantityError {}

/// Mistake of a flag's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagError {
    /// The key has no unit: a mistake of the program.
    NoUnit,
    /// It is not a quantity of this unit.
    Quantity(QuantityError, Unit),
    /// It is this number, where whole ones are expected.
    Fraction(String, Option<Unit>),
    /// It is not a number that can be represented.
    NotANumber,
}

impl fmt::Display for FlagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnit => f.write_str("the flag has no unit"),
            Self::Quantity(QuantityError::NotANumber, unit) => f.write_str(&expected(*unit)),
            Self::Quantity(err, unit) => write!(f, "it {err}; {}", expected(*unit)),
            Self::Fraction(number, unit) => {
                write!(f, "{number} is not a whole number{}", unit.map_or("", in_words))
            }
            Self::NotANumber => f.write_str("not a number"),
        }
    }
}

impl std::error::Error for FlagError {}

/// Parsers of flags end with one line.
impl From<FlagError> for String {
    fn from(err: FlagError) -> Self {
        err.to_string()
    }
}

/// Reads text as a number of a key's unit: an integer, or a decimal fraction where the unit is larger than what is given.
///
/// # Errors
/// Its mistake.
pub fn parse(text: &str, unit: Unit) -> Result<String, QuantityError> {
    let text = text.trim();
    let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '_');
    let end = text.find(|c: char| !is_of_number(c)).unwrap_or(text.len());
    let (number, name) = (text[..end].replace('_', ""), text[end..].trim());
    let (whole, fraction) = number.split_once('.').unwrap_or((number.as_str(), ""));
    let digits = format!("{whole}{fraction}");
    // Longer ones do not fit any key.
    if whole.is_empty() || fraction.contains('.') || digits.len() > 24 {
        return Err(QuantityError::NotANumber);
    }
    let mantissa: u128 = digits.parse().map_err(|_| QuantityError::NotANumber)?;
    let scale_of = |kind: Kind| kind.units().iter().find(|(known, _)| *known == name).map(|it| it.1);
    let scale = match scale_of(unit.kind) {
        Some(scale) => scale,
        // A budget says what it is for in its key.
        None if unit.kind == Kind::Budget && scale_of(Kind::Size).is_some() => {
            scale_of(Kind::Size).unwrap_or(1)
        }
        None if name.is_empty() => unit.scale,
        None => {
            let other = Kind::ALL.into_iter().find(|kind| scale_of(*kind).is_some());
            return Err(match other {
                Some(kind) => QuantityError::OtherKind(kind),
                None if name.starts_with(',') => {
                    let all = &text[whole.len()..];
                    let end = all.find(|c: char| !(c == ',' || c.is_ascii_digit())).unwrap_or(all.len());
                    let right = without_commas(&text[..whole.len() + end]);
                    QuantityError::Comma(format!("{right}{}", &all[end..]))
                }
                None => QuantityError::Unit(name.to_owned(), meant(name, unit.kind)),
            });
        }
    };
    let product = mantissa.checked_mul(scale).ok_or(QuantityError::TooLarge)?;
    let divisor = 10_u128
        .checked_pow(fraction.len() as u32)
        .and_then(|it| it.checked_mul(unit.scale))
        .ok_or(QuantityError::TooLarge)?;
    let (quotient, mut rest) = (product / divisor, product % divisor);
    if quotient > i64::MAX as u128 {
        return Err(QuantityError::TooLarge);
    }
    let mut out = quotient.to_string();
    if rest > 0 {
        out.push('.');
        // Divisors are powers of ten times 86,400: a week of days in seconds ends soon, other fractions are cut.
        for _ in 0..12 {
            rest *= 10;
            out.push(char::from_digit((rest / divisor) as u32, 10).unwrap_or('0'));
            rest %= divisor;
            if rest == 0 {
                break;
            }
        }
    }
    Ok(out)
}

/// Reads the value of a command line's flag that has the unit of `key`: a whole number, or a text with a unit.
///
/// # Errors
/// Its mistake, with what is expected.
pub fn of_flag(key: &str, text: &str) -> Result<u64, FlagError> {
    let number = number_of_flag(key, text)?;
    number.parse().map_err(|_| FlagError::Fraction(number, unit_of(key)))
}

/// The same, where a fraction is possible.
///
/// # Errors
/// Its mistake, with what is expected.
pub fn fraction_of_flag(key: &str, text: &str) -> Result<f64, FlagError> {
    number_of_flag(key, text)?.parse().map_err(|_| FlagError::NotANumber)
}

fn number_of_flag(key: &str, text: &str) -> Result<String, FlagError> {
    let unit = unit_of(key).ok_or(FlagError::NoUnit)?;
    parse(text, unit).map_err(|why| FlagError::Quantity(why, unit))
}

/// The unit itself, behind a number.
const fn in_words(unit: Unit) -> &'static str {
    match (unit.kind, unit.scale) {
        (Kind::Rate, _) => " of bits a second",
        (Kind::Size, _) => " of bytes",
        (Kind::Time, 1) => " of milliseconds",
        (Kind::Time, 1000) => " of seconds",
        (Kind::Time, _) => " of days",
        _ => "",
    }
}

/// A text whose quantities are numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The text.
    pub text: String,
    /// Value that cannot be read, with its place in the original; 1 stands for it in the text.
    pub mistakes: Vec<Mistake>,
    /// Places of replacements: the place in the text, and in the original.
    replaced: Vec<(Range<usize>, Range<usize>)>,
}

impl Converted {
    /// The place in the original of byte `at` of the text.
    pub fn original(&self, at: usize) -> usize {
        let last = self.replaced.iter().rev().find(|(now, _)| now.start <= at);
        match last {
            Some((now, before)) if at < now.end => before.start,
            Some((now, before)) => before.end + (at - now.end),
            None => at,
        }
    }
}

/// Replaces every quantity in TOML by the number of its key's unit. Text that is not TOML is not changed.
pub fn convert(text: &str) -> Converted {
    let mut found = Vec::new();
    let mut mistakes = Vec::new();
    if let Ok(document) = Document::parse(text) {
        walk(document.as_table(), "", text, &mut found, &mut mistakes);
    }
    found.sort_by_key(|(range, _)| range.start);
    let (mut out, mut done, mut replaced) = (String::with_capacity(text.len()), 0, Vec::new());
    for (range, number) in found {
        out.push_str(&text[done..range.start]);
        let start = out.len();
        out.push_str(&number);
        replaced.push((start..out.len(), range.clone()));
        done = range.end;
    }
    out.push_str(&text[done..]);
    Converted { text: out, mistakes, replaced }
}

type Found = Vec<(Range<usize>, String)>;

fn walk(table: &dyn TableLike, path: &str, text: &str, found: &mut Found, mistakes: &mut Vec<Mistake>) {
    for (name, item) in table.iter() {
        let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match item {
            Item::ArrayOfTables(tables) => {
                for (index, table) in tables.iter().enumerate() {
                    walk(table, &format!("{path}[{index}]"), text, found, mistakes);
                }
            }
            Item::Value(value) => of_value(value, &path, unit_of(name), text, found, mistakes),
            item => {
                if let Some(table) = item.as_table_like() {
                    walk(table, &path, text, found, mistakes);
                }
            }
        }
    }
}

fn of_value(
    value: &Value,
    path: &str,
    unit: Option<Unit>,
    text: &str,
    found: &mut Found,
    mistakes: &mut Vec<Mistake>,
) {
    match (value, unit) {
        (Value::String(string), Some(unit)) => {
            let Some(range) = string.span() else { return };
            let number = parse(string.value(), unit).unwrap_or_else(|why| {
                let (line, column) = line_and_column(text, range.start);
                let what = format!("the text \"{}\" {why}", string.value());
                let fix = expected(unit);
                let key = path.to_owned();
                mistakes.push(Mistake { line, column, key, what: what.trim_end().to_owned(), fix });
                "1".to_owned()
            });
            found.push((range, number));
        }
        (Value::Array(array), unit) => {
            for (index, value) in array.iter().enumerate() {
                of_value(value, &format!("{path}[{index}]"), unit, text, found, mistakes);
            }
        }
        (Value::InlineTable(table), _) => walk(table, path, text, found, mistakes),
        _ => {}
    }
}

/// Values that a key of this unit takes, in words.
pub fn expected(unit: Unit) -> String {
    format!("expected a number, e.g. {} or \"{}\"", unit.number, unit.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, text: &str) -> Result<String, QuantityError> {
        parse(text, unit_of(key).unwrap())
    }

    #[test]
    fn flags_take_what_keys_take() {
        for (key, text, number) in [
            ("rate_bps", "4 Mbit/s", 4_000_000),
            ("rate_bps", "4_000_000", 4_000_000),
            ("seconds_s", "60", 60),
            ("seconds_s", "1 min", 60),
            ("valid_days", "1 d", 1),
        ] {
            assert_eq!(of_flag(key, text), Ok(number), "{text}");
        }
        for (key, text, part) in [
            ("rate_bps", "4 MB", "it is a size; expected a number, e.g. 8_000_000 or \"8 Mbit/s\""),
            ("rate_bps", "fast", "expected a number, e.g. 8_000_000"),
            ("rate_bps", "-1", "expected a number"),
            ("seconds_s", "1m", "has no unit that is known here: \"m\"; expected"),
            ("seconds_s", "1500 ms", "1.5 is not a whole number of seconds"),
            ("valid_days", "1 h", "is not a whole number of days"),
        ] {
            let why = of_flag(key, text).unwrap_err().to_string();
            assert!(why.contains(part), "{text}: {why}");
        }
        assert_eq!(fraction_of_flag("loss_percent", "0.5 %"), Ok(0.5));
        assert_eq!(fraction_of_flag("loss_percent", "5%"), Ok(5.0));
        assert!(fraction_of_flag("loss_percent", "-1").unwrap_err().to_string().contains("10 %"));
        assert!(fraction_of_flag("loss_percent", "NaN").is_err());
    }

    #[test]
    fn every_kind_in_the_unit_of_its_key() {
        for (key, text, number) in [
            ("rate_bps", "8 Mbit/s", "8000000"),
            ("rate_bps", "61.27Mbit/s", "61270000"),
            ("live_bps", "800 kbps", "800000"),
            ("quota_bytes", "10 GB", "10000000000"),
            ("quota_bytes", "1.5 GiB", "1610612736"),
            ("quota_bytes", "1_000 B", "1000"),
            ("wait_ms", "4 s", "4000"),
            ("wait_ms", "0.25 s", "250"),
            ("expiry_s", "1 h", "3600"),
            ("expiry_s", "7 days", "604800"),
            ("expiry_s", "1500 ms", "1.5"),
            ("write_budget_bytes_per_day", "20 GB/day", "20000000000"),
            ("write_budget_bytes_per_day", "20 GB", "20000000000"),
            ("scrub_bytes_per_s", "4 MiB/s", "4194304"),
            ("frequency_10khz", "11727.5 MHz", "1172750"),
            ("frequency_khz", "11.7275 GHz", "11727500"),
            ("symbol_rate_ksps", "27.5 Msym/s", "27500"),
            ("overhead_percent", "7.5 %", "7.5"),
            ("wait_ms", "250", "250"),
        ] {
            assert_eq!(read(key, text).as_deref(), Ok(number), "{key} = {text:?}");
        }
    }

    #[test]
    fn another_kind_is_named_and_nonsense_is_no_number() {
        assert_eq!(read("rate_bps", "8 MB").unwrap_err().to_string(), "is a size");
        assert_eq!(read("quota_bytes", "8 Mbit/s").unwrap_err().to_string(), "is a rate");
        assert_eq!(read("scrub_bytes_per_s", "4 MB").unwrap_err().to_string(), "is a size");
        assert_eq!(read("wait_ms", "1,5 s").unwrap_err().to_string(), "has a comma: write 1.5 s");
        assert_eq!(read("wait_ms", "8,000 s").unwrap_err().to_string(), "has a comma: write 8000 s");
        assert_eq!(read("wait_ms", "8,000,000 ms").unwrap_err().to_string(), "has a comma: write 8000000 ms");
        assert_eq!(read("rate_bps", "8 Mbit").unwrap_err().to_string(), "has no unit \"Mbit\": write Mbit/s");
        assert_eq!(
            read("rate_bps", "8 mbit/s").unwrap_err().to_string(),
            "has no unit \"mbit/s\": write Mbit/s"
        );
        assert_eq!(
            read("wait_ms", "4 parsecs").unwrap_err().to_string(),
            "has no unit that is known here: \"parsecs\""
        );
        for text in ["", "fast", "1.2.3 s", "-4 s", ".5 s"] {
            assert!(read("wait_ms", text).is_err(), "{text:?}");
        }
        assert_eq!(read("wait_ms", "999999999999999999999 d").unwrap_err().to_string(), "is too large");
        assert!(read("wait_ms", &"9".repeat(60)).is_err());
        assert!(unit_of("interface").is_none() && unit_of("class").is_none());
    }

    #[test]
    fn a_text_is_converted_everywhere_and_places_lead_back() {
        let text = "a_bps = \"8 Mbit/s\"\nb = { c_ms = '4 s', d = 1 }\ne_bps = [\"1 kbit/s\", 5]\n[[f]]\ng_s = \"1 min\"\nname = \"4 s\"\n";
        let converted = convert(text);
        let wanted = "a_bps = 8000000\nb = { c_ms = 4000, d = 1 }\ne_bps = [1000, 5]\n[[f]]\ng_s = 60\nname = \"4 s\"\n";
        assert_eq!((converted.text.as_str(), converted.mistakes.len()), (wanted, 0));
        for part in ["b = {", "d = 1", "[[f]]", "name ="] {
            let at = wanted.find(part).unwrap();
            assert_eq!(converted.original(at), text.find(part).unwrap(), "{part}");
        }
        assert_eq!(converted.original(wanted.find("4000").unwrap() + 2), text.find("'4 s'").unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_one_mistake_at_its_place() {
        let converted = convert("x = 1\n[[s]]\nr_bps = \"8 MB\"\n");
        assert_eq!(converted.text, "x = 1\n[[s]]\nr_bps = 1\n");
        let said: Vec<String> = converted.mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "3:9: s[0].r_bps: the text \"8 MB\" is a size; expected a number, e.g. 8_000_000 or \"8 Mbit/s\""
            ]
        );
        assert_eq!(convert("no toml").text, "no toml");
    }
}
