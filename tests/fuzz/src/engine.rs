//! The program that `cargo xtask fuzz` runs: libFuzzer around one target, which `SKYCACHE_FUZZ_TARGET` names.
#![no_main]
// The engine's macro exports the functions that libFuzzer calls.
#![allow(unsafe_code)]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use skycache_fuzz::{Target, target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("SKYCACHE_FUZZ_TARGET").unwrap_or_default();
        let target = target(&name).unwrap_or_else(|| panic!("SKYCACHE_FUZZ_TARGET={name:?} names no target"));
        let _ = TARGET.set(target);
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);
