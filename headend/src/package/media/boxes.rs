//! Parsing of boxes (ISO/IEC 14496-12 clause 4.2). A box longer than the data is truncated to it, since the tables after
//! a long film's sample descriptions are not read.

use carousel::bytes::Reader;

/// Kind and body of a box.
pub(in crate::package) type BoxRef<'a> = ([u8; 4], &'a [u8]);

/// Kind and length in bytes of the first box; no length if it extends to the end.
pub(in crate::package) fn head(bytes: &[u8]) -> Option<([u8; 4], Option<u64>)> {
    let mut reader = Reader::new(bytes);
    let length = reader.u32("box size").ok()?;
    let kind = reader.array("box type").ok()?;
    match length {
        0 => Some((kind, None)),
        1 => reader.uint::<8>("box largesize").ok().filter(|&length| length >= 16).map(|it| (kind, Some(it))),
        2..8 => None,
        _ => Some((kind, Some(length.into()))),
    }
}

/// Whether this kind of box occurs at the top level of files and segments.
pub(in crate::package) const fn is_top_level(kind: [u8; 4]) -> bool {
    matches!(
        &kind,
        b"ftyp"
            | b"styp"
            | b"moov"
            | b"moof"
            | b"mdat"
            | b"sidx"
            | b"ssix"
            | b"prft"
            | b"emsg"
            | b"free"
            | b"skip"
            | b"wide"
            | b"pdin"
            | b"meta"
            | b"uuid"
    )
}

/// Iterates over consecutive boxes.
pub(in crate::package) fn boxes(bytes: &[u8]) -> impl Iterator<Item = BoxRef<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (kind, length) = head(rest)?;
        let header = if rest.starts_with(&[0, 0, 0, 1]) { 16 } else { 8 };
        let end = length
            .and_then(|length| usize::try_from(length).ok())
            .map_or(rest.len(), |it| it.min(rest.len()));
        let (it, behind) = rest.split_at(end);
        rest = behind;
        Some((kind, it.get(header..)?))
    })
}

/// The body of the first box of this kind.
pub(in crate::package) fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes).find(|(it, _)| it == kind).map(|(_, body)| body)
}

/// The body of the box at the end of a path of kinds.
pub(in crate::package) fn at<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Option<&'a [u8]> {
    path.iter().try_fold(bytes, |bytes, kind| find(bytes, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_form_and_those_that_lie() {
        let mut bytes = vec![0, 0, 0, 9, b'f', b'r', b'e', b'e', 7];
        bytes.extend([0, 0, 0, 1, b'w', b'i', b'd', b'e', 0, 0, 0, 0, 0, 0, 0, 18, 8, 9]);
        bytes.extend([0, 0, 0, 0, b'm', b'o', b'o', b'v', 1, 2, 3]);
        let all: Vec<BoxRef<'_>> = boxes(&bytes).collect();
        assert_eq!(all, [(*b"free", &[7][..]), (*b"wide", &[8, 9]), (*b"moov", &[1, 2, 3])]);
        assert_eq!(find(&bytes, b"moov"), Some(&[1, 2, 3][..]));
        let long = [0, 0, 0, 200, b'm', b'o', b'o', b'v', 0, 0, 1, 0, b't', b'r', b'a', b'k', 5];
        assert_eq!(at(&long, &[b"moov", b"trak"]), Some(&[5][..]));
        for lie in [[0, 0, 0, 7, b'f', b'r', b'e', b'e', 0, 0], [0, 0, 0, 1, b'f', b'r', b'e', b'e', 0, 0]] {
            assert_eq!(boxes(&lie).count(), 0);
        }
    }
}
