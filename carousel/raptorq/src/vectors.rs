//! Code compiled for the vector instructions that the processor has.
//!
//! The invariant: a function that is compiled for a set of instructions is called only where the processor was seen to have all of them.
//! NEON belongs to every 64-bit ARM that Rust knows and needs no choice; on 32-bit ARM only an unstable compiler detects it.
#![allow(unsafe_code)] // calls of functions with target features, behind their detection

/// Work that is compiled for several sets of instructions. `run` must be `#[inline(always)]`, as everything that it calls.
pub(super) trait Vectorized {
    fn run(self);
}

/// Runs `work` with the widest vectors that the processor has.
pub(super) fn run(work: impl Vectorized) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
        fn avx512(work: impl Vectorized) {
            work.run();
        }
        #[target_feature(enable = "avx2")]
        fn avx2(work: impl Vectorized) {
            work.run();
        }
        // A hypervisor may hide one and leave another that implies it.
        let has_avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        if has_avx512 && is_x86_feature_detected!("avx2") {
            // SAFETY: all four were detected.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: AVX2 was detected.
            return unsafe { avx2(work) };
        }
    }
    work.run();
}
