//! Every maximum that bounds what the outside can make us hold, with what real traffic needs and what a hostile
//! sender could cost.

/// UDP payload. Jumbo frames carry 8972 bytes; GPAC accepts 10,000. Above: dropped.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;

/// One FDT Instance after decompression. SES lists 60 objects in 20 KB; 1 MiB holds about 3,000 files.
pub const MAX_FDT_BYTES: u64 = 1 << 20;

/// FDT Instances of one session being assembled at a time. Senders interleave two at most.
pub const MAX_FDT_INSTANCES_OPEN: usize = 4;

/// FDT Instances of one session remembered to recognise their repeats. Our own sender splits 100,000 files into
/// 1,000 or so.
pub const MAX_FDT_INSTANCES_KEPT: usize = 2_048;

/// Files described by the FDT of one session. A reference catalogue has 100,000; an entry costs about 300 bytes.
pub const MAX_FILES_PER_SESSION: usize = 131_072;

/// Bytes of names and types that the FDT of one session may hold: 131,072 entries of 256 bytes.
pub const MAX_FDT_TEXT_BYTES: usize = 32 << 20;

/// Objects of one session under reassembly at a time. Carousels interleave a handful; one bit map and one buffer each.
pub const MAX_OBJECTS_IN_FLIGHT: usize = 1_024;

/// TOIs of one session remembered as done, so that their repeats cost nothing. Some 80 bytes each.
pub const MAX_TOIS_DONE: usize = 131_072;

/// Packets kept for TOIs that no FDT Instance and no EXT_FTI has described yet, per session. One second of 16 Mbit/s.
pub const MAX_EARLY_BYTES: usize = 2 << 20;

/// Transfer length of one object. SES announces files of 290 MB; a film in one file is 8 GB.
pub const MAX_OBJECT_BYTES: u64 = 16 << 30;

/// Encoding symbols of one object: the bit map of 16 GiB at 1,024 bytes a symbol is 2 MiB.
pub const MAX_OBJECT_SYMBOLS: u64 = 1 << 24;

/// A decompressed object may be this many times its transfer length where the FDT gives no Content-Length:
/// gzip itself stops at about 1,032.
pub const MAX_INFLATE_RATIO: u64 = 1_032;

/// Sessions (source, group, port, TSI) of one receiver. A multiplex has tens; a hostile host could invent addresses.
pub const MAX_SESSIONS: usize = 512;

/// Object names. RFC 9110 section 4.1 asks for at least 8,000 octets of URI; on air the longest is 230.
pub const MAX_URI_BYTES: usize = 8_192;

/// XML documents other than FDT Instances (gateway configurations, service lists): the largest seen is 87 KB.
pub const MAX_XML_BYTES: usize = 8 << 20;

/// Nesting of XML elements. DVB-I needs 12.
pub const MAX_XML_DEPTH: usize = 64;

/// Elements of one XML document. A service list of 10,000 services has about 400,000.
pub const MAX_XML_ELEMENTS: usize = 1 << 20;
