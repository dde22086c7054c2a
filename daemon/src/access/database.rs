//! A database in MaxMind's format (MaxMind DB 2.0), written for tests: a binary tree of IPv6 with IPv4 at `::/96`, records of 24 bits.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// Target of a record of the tree.
#[derive(Clone, Copy)]
enum To {
    Nothing,
    Node(usize),
    /// Offset in the data section.
    Data(usize),
}

/// Networks, each with a field and the code of a country in it.
pub(super) fn of(networks: &[(&str, &str, &str)]) -> Vec<u8> {
    let (mut nodes, mut data) = (vec![[To::Nothing; 2]], Vec::new());
    for (network, field, country) in networks {
        insert(&mut nodes, network.parse().unwrap(), data.len());
        map(&mut data, 1);
        text(&mut data, field);
        map(&mut data, 1);
        text(&mut data, "iso_code");
        text(&mut data, country);
    }
    let mut out = tree(&nodes);
    out.extend_from_slice(&[0; 16]);
    out.append(&mut data);
    metadata(&mut out, nodes.len());
    out
}

/// Has a network lead to what is at `offset` in the data section.
fn insert(nodes: &mut Vec<[To; 2]>, network: IpNetwork, offset: usize) {
    let (bits, length) = match network.network() {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), u32::from(network.prefix()) + 96),
        IpAddr::V6(ip) => (ip.to_bits(), u32::from(network.prefix())),
    };
    let mut at = 0;
    for bit in 0..length {
        let side = (bits >> (127 - bit) & 1) as usize;
        if bit + 1 == length {
            nodes[at][side] = To::Data(offset);
            return;
        }
        at = match nodes[at][side] {
            To::Node(next) => next,
            _ => {
                nodes.push([To::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[at][side] = To::Node(next);
                next
            }
        };
    }
}

/// The binary search tree section.
fn tree(nodes: &[[To; 2]]) -> Vec<u8> {
    let count = nodes.len();
    let mut out = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match record {
            To::Nothing => count,
            To::Node(next) => *next,
            To::Data(offset) => count + 16 + offset,
        };
        out.extend_from_slice(&(value as u32).to_be_bytes()[1..]);
    }
    out
}

/// The metadata section of a tree of `nodes` nodes.
fn metadata(out: &mut Vec<u8>, nodes: usize) {
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    map(out, 9);
    for (name, value) in [
        ("node_count", nodes as u64),
        ("record_size", 24),
        ("ip_version", 6),
        ("binary_format_major_version", 2),
        ("binary_format_minor_version", 0),
        ("build_epoch", 1_784_000_000),
    ] {
        text(out, name);
        // An unsigned integer of 64 bits is an extended type, the smaller ones are not.
        match name {
            "build_epoch" => out.extend_from_slice(&[0x08, 0x02]),
            "node_count" => out.push(0xc4),
            _ => out.push(0xa2),
        }
        match name {
            "build_epoch" => out.extend_from_slice(&value.to_be_bytes()),
            "node_count" => out.extend_from_slice(&(value as u32).to_be_bytes()),
            _ => out.extend_from_slice(&(value as u16).to_be_bytes()),
        }
    }
    text(out, "database_type");
    text(out, "Test-Country");
    text(out, "languages");
    out.extend_from_slice(&[0x00, 0x04]);
    text(out, "description");
    map(out, 0);
}

/// The control byte of a map.
fn map(out: &mut Vec<u8>, entries: u8) {
    out.push(0xe0 | entries);
}

/// A short string.
fn text(out: &mut Vec<u8>, text: &str) {
    out.push(0x40 | u8::try_from(text.len()).unwrap());
    out.extend_from_slice(text.as_bytes());
}
