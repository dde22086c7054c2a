//! Every maximum that bounds what the outside can make us hold, with what real traffic needs and what a hostile
//! sender could cost.

use std::time::Duration;

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

/// An FDT entry, or an object in flight, ages by this while the date is not known: an FDT that a carousel repeats comes
/// several times a minute.
pub const UNDATED_EXPIRY: Duration = Duration::from_secs(30 * 60);

/// An object whose FDT entry has expired is still waited for so long after its last packet: its repair may be on the way.
pub const EXPIRED_GRACE: Duration = Duration::from_secs(30);

/// An incomplete object is kept so long after its last packet, whatever its FDT says: a carousel may come round once a day.
pub const MAX_OBJECT_SILENCE: Duration = Duration::from_secs(36 * 3600);

/// A session of which nothing is described, in flight or kept early is forgotten after so much silence.
pub const SPENT_SESSION_SILENCE: Duration = Duration::from_secs(15 * 60);

/// A session is forgotten after so much silence, whatever it has described.
pub const MAX_SESSION_SILENCE: Duration = Duration::from_secs(36 * 3600);

/// Sessions (source, group, port, TSI) of one receiver. The one that has been silent longest makes room. A multiplex has tens; a hostile host could invent addresses.
pub const MAX_SESSIONS: usize = 512;

/// Object names. RFC 9110 section 4.1 asks for at least 8,000 octets of URI; on air the longest is 230.
pub const MAX_URI_BYTES: usize = 8_192;

/// XML documents other than FDT Instances (gateway configurations, service lists): the largest seen is 87 KB.
pub const MAX_XML_BYTES: usize = 8 << 20;

/// XML documents that are read element by element, never held: service lists of 10,000 services have 25 MB, programme
/// guides of a week for 300 channels 40 MB.
pub const MAX_LONG_XML_BYTES: usize = 64 << 20;

/// Nesting of XML elements. DVB-I needs 12.
pub const MAX_XML_DEPTH: usize = 64;

/// Elements of one XML document. A service list of 10,000 services has about 400,000.
pub const MAX_XML_ELEMENTS: usize = 1 << 20;

/// PIDs of a transport stream whose sections are assembled at a time, 4 KiB each. Tables and programmes of a full
/// multiplex take some 30, carousels and IP a few more.
pub const MAX_SECTION_PIDS: usize = 192;

/// PIDs that no PMT names and that are looked into because sections of ours seem to begin in them.
pub const MAX_UNDECLARED_PIDS: usize = 32;

/// Programmes of a transport stream. A PAT section has room for 253; the fullest multiplexes have 80.
pub const MAX_PROGRAMS: usize = 128;

/// DSM-CC carousels of one transport stream.
pub const MAX_CAROUSELS: usize = 32;

/// DIIs of one carousel: from some 15 to 100 modules each, all that 16 bits of module id can tell apart.
pub const MAX_DOWNLOAD_INFOS: usize = 4_608;

/// Modules of one carousel: what 16 bits can tell apart. Some 200 bytes each.
pub const MAX_MODULES: usize = 65_536;

/// Modules of one carousel under reassembly at a time: carousels interleave a handful.
pub const MAX_MODULES_OPEN: usize = 256;

/// Blocks kept for modules that no DII has described yet, per carousel. A second of 16 Mbit/s.
pub const MAX_EARLY_BLOCK_BYTES: usize = 2 << 20;

/// Bytes of whole modules of one carousel that wait for the directory that names their files.
pub const MAX_MODULES_HELD_BYTES: u64 = 64 << 20;

/// A module after zlib. Objects beyond this are not worth compressing, and a hostile one must not fill the memory.
pub const MAX_INFLATED_MODULE_BYTES: u32 = 64 << 20;

/// Names in one directory. TS 102 809 allows 512; a module cannot hold more than a few thousand that are of use.
pub const MAX_BINDINGS_PER_DIRECTORY: usize = 8_192;

/// Files of one carousel. Some 300 bytes each.
pub const MAX_CAROUSEL_NAMES: usize = 131_072;

/// Directories inside directories.
pub const MAX_CAROUSEL_DEPTH: usize = 32;

/// GSE packets or MPE sections put together at a time, per stream: one for each fragment id.
pub const MAX_PDUS_OPEN: usize = 256;
