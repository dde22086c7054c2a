//! The small files of `packaging/image`, and identifiers that are the same in each build.

use carousel::digest::Digest;

/// Lines without comments and empty ones.
pub(super) fn lines(text: &str) -> Vec<String> {
    let without = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    without.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// As the daemon's: what can stand in a kernel image's name.
pub(super) fn is_version(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-~^".contains(&byte);
    (1..=32).contains(&text.len()) && text.bytes().all(known)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn sha256(parts: &[&str]) -> [u8; 32] {
    Digest::of(parts.join("\0").as_bytes()).0
}

/// A UUID of a thing's name, of version 8 (RFC 9562, section 5.8).
pub(super) fn uuid(name: &[&str]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&sha256(name)[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    dashed(&hex(&bytes))
}

/// 32 digits as a UUID is written.
pub(super) fn dashed(digits: &str) -> String {
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..32]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_comments_and_identifiers_are_fixed() {
        assert_eq!(lines("# a\nb   # why\n\n c d\n"), ["b", "c d"]);
        let uuid = uuid(&["skycache", "disk"]);
        assert_eq!(uuid, super::uuid(&["skycache", "disk"]));
        assert_ne!(uuid, super::uuid(&["skycache", "disk", ""]));
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
        assert!(is_version("1.5~rc1") && !is_version("1_5") && !is_version("1+3") && !is_version(""));
    }
}
