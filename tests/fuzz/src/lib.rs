//! One target for every parser and state machine that bytes from outside reach, and its initial inputs.
//!
//! A target is a function of bytes that must neither panic, nor take long, nor hold more than its limits; where two ways
//! lead to one result, it compares them. `cargo xtask fuzz` runs targets under libFuzzer with AddressSanitizer; the test
//! `replay` calls the same functions with every seed and with every input kept in `corpus`, in an ordinary build.
//!
//! ```text
//! seeds (our own senders) ─┐
//! corpus/TARGET            ├─▶ target ─▶ carousel, headend, skycache
//! libFuzzer's mutations ───┘
//! ```
//!
//! State machines take sequences: records of an operation, a length and bytes ([`input`]).

pub mod input;
pub mod mutate;
mod seeds;
mod targets;

pub use targets::TARGETS;

/// One entry for bytes from outside.
#[derive(Debug)]
pub struct Target {
    /// Its name: of its folder in `corpus` too.
    pub name: &'static str,
    /// The function that it calls.
    pub covers: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
    /// Inputs to begin with, made by our own senders and writers.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words of the format, a byte for each character.
    pub words: &'static [&'static str],
    /// The longest input in bytes.
    pub longest: usize,
}

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|it| it.name == name)
}

impl Target {
    /// Its words in libFuzzer's format for dictionaries.
    pub fn dictionary(&self) -> String {
        let quoted = |word: &&str| {
            let bytes = word.chars().map(|character| match character {
                '"' | '\\' => format!("\\{character}"),
                ' '..='~' => character.to_string(),
                _ => format!("\\x{:02x}", u32::from(character)),
            });
            format!("\"{}\"\n", bytes.collect::<String>())
        };
        self.words.iter().map(quoted).collect()
    }
}
