//! Sets the version that `headend --version` prints.

#[path = "../packaging/version.rs"]
mod version;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../packaging/version.rs");
    version::set();
}
