#!/bin/sh
# The crate hrw, rendezvous hashing for "which node has this key", chooses other nodes in each process: its hash has a random key.
#
# Rendezvous hashing (Thaler and Ravishankar, 1998) is made for clients and caches that agree on a node for each object without talking to
# each other, and the README promises "deterministic node selection for any key". The constructors take std's RandomState, whose keys are
# drawn when a process starts.
# Of 1,000 segments that two processes place on the same five nodes:
#        hrw, Rendezvous::from_nodes             about 800 on different nodes, as many as by chance
#        rendezvous_hash, DefaultNodeHasher      0
# One would expect the default of such a library to be the same everywhere, and a hasher of one's own to be the exception. Its tests, and
# one's own, pass: within a process all agree. Seen with hrw 0.1.2 and rendezvous_hash 0.3.0 (the Rust registry).
#
# Shields that share a catalogue by it hold each object five times, or ask each other for what the other has not, after each restart
# anew. A fleet needs a hash with a written definition, and a test that pins the node of a name as a constant.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
printf '%s\n' '[package]' 'name = "finding"' 'version = "0.1.0"' 'edition = "2021"' '[dependencies]' >Cargo.toml
printf '%s\n' 'hrw = "=0.1.2"' 'rendezvous_hash = "=0.3.0"' >>Cargo.toml
cat >src/main.rs <<'EOF'
use hrw::Rendezvous;
use rendezvous_hash::{DefaultNodeHasher, RendezvousNodes};

fn main() {
    let nodes = ["a.example", "b.example", "c.example", "d.example", "e.example"];
    let by_hrw = Rendezvous::from_nodes(nodes);
    let again = by_hrw.clone();
    let mut other = RendezvousNodes::new(DefaultNodeHasher::new());
    for node in nodes {
        other.insert(node);
    }
    for number in 0..1000 {
        let name = format!("/live/{number}.m4s");
        assert_eq!(by_hrw.pick_top(&name), again.pick_top(&name));
        println!("{} {}", by_hrw.pick_top(&name).unwrap(), other.calc_candidates(&name).next().unwrap());
    }
}
EOF
export CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$dir/target"
cargo run -q >first
cargo run -q >second
different() { paste -d ' ' first second | awk "\$$1 != \$$2" | wc -l; }
echo "hrw: $(different 1 3) of 1,000 on different nodes; rendezvous_hash: $(different 2 4)"
test "$(different 1 3)" -gt 600
test "$(different 2 4)" -eq 0
