//! Limits on everything that the outside can fill.
//!
//! [`limits!`](crate::limits!) declares a limit with its reason, what happens when it is reached, when the place is free
//! again, and the test that reaches it. Limits that several modules share are below; a limit of one module stands in that
//! module. `docs/reference/limits.md` is generated from all of them, in all crates, by `cargo xtask reference`.

use std::time::Duration;

/// Declares limits: constants with the facts that the reference page lists.
///
/// | field | meaning |
/// |---|---|
/// | unit | behind the value: `bytes`, `ms`, or what is counted |
/// | `why` | what real traffic needs, and what a hostile sender could cost |
/// | `full` | what happens when the limit is reached, with the reason that counts it |
/// | `free` | when the place is free again |
/// | `test` | the test that reaches the limit and comes back; `none` is listed in the page as missing |
///
/// ```
/// carousel::limits! {
///     /// Sessions that are received at a time.
///     pub const MAX_SESSIONS: usize = 2 << 10, "sessions" {
///         why: "A network has 300; a session takes 2 KiB.",
///         full: "The session is dropped as `no_room`.",
///         free: "When a session ends, at the latest after a day.",
///         test: "a_session_beyond_the_limit_is_dropped",
///     }
/// }
/// assert_eq!(MAX_SESSIONS, 2048);
/// ```
#[macro_export]
macro_rules! limits {
    ($(
        $(#[doc = $about:literal])+
        $vis:vis const $name:ident: $type:ty = $value:expr, $unit:literal {
            why: $why:literal,
            full: $full:literal,
            free: $free:literal,
            test: $test:literal,
        }
    )+) => { $(
        $(#[doc = $about])+
        #[doc = concat!(
            "\n\nIn ", $unit, ". ", $why, "\n\n- Full: ", $full, "\n- Free again: ", $free, "\n- Test: `", $test, "`"
        )]
        $vis const $name: $type = $value;
    )+ };
}

/// Bytes that `transported` bytes may become: [`MAX_INFLATE_RATIO`] times as many, or `at_any_ratio`.
pub(crate) fn most_inflated(transported: usize, at_any_ratio: u64) -> u64 {
    (transported as u64).saturating_mul(MAX_INFLATE_RATIO).max(at_any_ratio)
}

/// The beginning of a text: at most `most_bytes`, cut between characters.
pub fn cut(text: &str, most_bytes: usize) -> &str {
    let mut end = text.len().min(most_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

limits! {
    /// One FDT Instance after content decoding.
    pub const MAX_FDT_BYTES: u64 = 1 << 20, "bytes" {
        why: "SES lists 60 objects in 20 KB; 1 MiB holds about 3,000 files.",
        full: "Its packets are dropped as `fdt_bad_length`, or the instance as `fdt_encoding`.",
        free: "Holds for one instance.",
        test: "an_instance_beyond_the_limit_is_dropped_and_the_next_is_read",
    }

    /// One FDT Instance after content decoding, up to which any ratio is taken; a longer one is at most [`MAX_INFLATE_RATIO`] times
    /// as long as what was transported.
    pub const MAX_FDT_INFLATED_BYTES: u64 = 64 << 10, "bytes" {
        why: "FDT Instances shrink to a tenth; a packet of 1,400 bytes could bring 1 MiB.",
        full: "The instance is dropped as `fdt_encoding`.",
        free: "Holds for one instance.",
        test: "an_fdt_instance_of_one_packet_is_inflated_to_a_part_of_the_limit",
    }

    /// FDT Instances of one session under reassembly at a time.
    pub const MAX_FDT_INSTANCES_OPEN: usize = 4, "instances" {
        why: "Senders interleave two at most; each costs up to 1 MiB.",
        full: "The instance that received a packet longest ago is dropped; its next packet opens it again.",
        free: "When an instance is complete and another one needs the place.",
        test: "more_open_instances_than_the_limit_replace_the_one_fed_longest_ago",
    }

    /// FDT Instances of one session remembered to recognise their repeats.
    pub const MAX_FDT_INSTANCES_KEPT: usize = 2_048, "instances" {
        why: "Our own sender splits 100,000 files into about 1,000; an entry has 16 bytes.",
        full: "The oldest fingerprint is dropped; a repeat of that instance is parsed again.",
        free: "When a newer instance is complete.",
        test: "fingerprints_beyond_the_limit_age_and_their_instances_are_read_again",
    }

    /// Files described by the FDT of one session.
    pub const MAX_FILES_PER_SESSION: usize = 131_072, "files" {
        why: "A reference catalogue has 100,000; an entry costs about 300 bytes.",
        full: "The entries that no recent instance repeated make room.",
        free: "When an entry expires or makes room for a newer one.",
        test: "a_sender_that_lets_nothing_expire_pushes_out_the_oldest",
    }

    /// Names and types that the FDT of one session may hold.
    pub const MAX_FDT_TEXT_BYTES: usize = 32 << 20, "bytes" {
        why: "131,072 entries of 256 bytes.",
        full: "The entries that no recent instance repeated make room.",
        free: "When an entry expires or makes room for a newer one.",
        test: "one_instance_cannot_grow_the_table_past_its_limit",
    }

    /// Objects of one session under reassembly at a time.
    pub const MAX_OBJECTS_IN_FLIGHT: usize = 1_024, "objects" {
        why: "Carousels interleave a handful; each costs a bit map and a buffer.",
        full: "Packets of further objects are dropped as `too_many_objects`.",
        free: "When an object is complete, expires or is abandoned.",
        test: "described_objects_in_flight_are_bounded",
    }

    /// TOIs of one session remembered as done, so that their repeats cost nothing.
    pub const MAX_TOIS_DONE: usize = 131_072, "TOIs" {
        why: "A reference catalogue has 100,000 objects; an entry costs about 80 bytes.",
        full: "The oldest TOI is dropped; a repeat of its object is received again.",
        free: "When a newer object is done.",
        test: "tois_beyond_the_limit_push_out_the_oldest",
    }

    /// Packets kept for TOIs that no FDT Instance and no EXT_FTI has described yet, for each session.
    pub const MAX_EARLY_BYTES: usize = 2 << 20, "bytes" {
        why: "One second of 16 Mbit/s.",
        full: "The oldest packets make room and are counted as evicted early packets.",
        free: "When their object is described, or newer packets need the room.",
        test: "early_packets_are_bounded_and_the_oldest_go",
    }

    /// Transfer length of one object.
    pub const MAX_OBJECT_BYTES: u64 = 16 << 30, "bytes" {
        why: "SES announces files of 290 MB; a film in one file has 8 GB.",
        full: "The OTI is refused: packets are dropped as `bad_oti`.",
        free: "Holds for one object.",
        test: "oti_that_contradicts_itself_is_refused",
    }

    /// Encoding symbols of one object.
    pub const MAX_OBJECT_SYMBOLS: u64 = 1 << 24, "symbols" {
        why: "The bit map of 16 GiB at 1,024 bytes a symbol takes 2 MiB.",
        full: "The OTI is refused: packets are dropped as `bad_oti`.",
        free: "Holds for one object.",
        test: "oti_that_contradicts_itself_is_refused",
    }

    /// Ratio of decoded to transported length of an object that has more than [`MAX_INFLATED_BYTES`], whatever its
    /// Content-Length says.
    pub const MAX_INFLATE_RATIO: u64 = 128, "times" {
        why: "Playlists and guides shrink to a tenth, XML of one kind to a fiftieth; gzip itself could do 1,032.",
        full: "The object is rejected as `too_large`.",
        free: "Holds for one object.",
        test: "bombs_are_refused_and_the_next_object_is_decoded",
    }

    /// Decoded length of an object up to which any ratio is taken.
    pub const MAX_INFLATED_BYTES: u64 = 8 << 20, "bytes" {
        why: "Manifests are shorter; inflating as much takes some 20 ms.",
        full: "The object is rejected as `too_large`, if it is more than MAX_INFLATE_RATIO times what was transported.",
        free: "Holds for one object.",
        test: "bombs_are_refused_and_the_next_object_is_decoded",
    }

    /// Age of an FDT entry, or of an object in flight, while the date is not known.
    pub const UNDATED_EXPIRY: Duration = Duration::from_secs(30 * 60), "s" {
        why: "A carousel repeats its FDT several times a minute.",
        full: "The entry expires, its object is abandoned as `expired`.",
        free: "At once; the next repetition of the instance describes the object again.",
        test: "without_a_date_entries_age_from_the_last_time_their_instance_came",
    }

    /// Time that an object is kept after its FDT entry has expired and its last packet has arrived.
    pub const EXPIRED_GRACE: Duration = Duration::from_secs(30), "s" {
        why: "Its repair may be on the way.",
        full: "The object is abandoned as `expired`.",
        free: "At once.",
        test: "an_expired_object_is_waited_for_while_its_packets_come",
    }

    /// Time that an incomplete object is kept after its last packet, whatever its FDT entry says.
    pub const MAX_OBJECT_SILENCE: Duration = Duration::from_secs(36 * 3600), "s" {
        why: "A cycle of a carousel may take a day.",
        full: "The object is abandoned as `silent`.",
        free: "At once.",
        test: "what_never_expires_is_given_up_after_a_day_and_a_half",
    }

    /// Silence after which a session is removed that has nothing described, in flight or kept early.
    pub const SPENT_SESSION_SILENCE: Duration = Duration::from_secs(15 * 60), "s" {
        why: "Live sessions send every few seconds.",
        full: "The session is removed.",
        free: "At once; the session is opened again by its next packet.",
        test: "ten_thousand_sessions_come_and_go_and_the_last_is_served_like_the_first",
    }

    /// Silence after which any session is removed.
    pub const MAX_SESSION_SILENCE: Duration = Duration::from_secs(36 * 3600), "s" {
        why: "A cycle of a carousel may take a day.",
        full: "The session is removed with its objects in flight.",
        free: "At once; the session is opened again by its next packet.",
        test: "ten_thousand_sessions_come_and_go_and_the_last_is_served_like_the_first",
    }

    /// Sessions (source, group, port, TSI) of one receiver.
    pub const MAX_SESSIONS: usize = 512, "sessions" {
        why: "A multiplex has tens; a hostile host could invent addresses.",
        full: "The session that has brought least makes room; of several, the one that has been silent longest.",
        free: "When a session has been silent for its time, or its group is left.",
        test: "ten_thousand_sessions_come_and_go_and_the_last_is_served_like_the_first",
    }

    /// Memory of all sessions of a process, of FLUTE and ROUTE, on whatever thread, where there is plenty: descriptions, early packets, objects and segments
    /// in memory, what is remembered of objects.
    pub const MAX_SESSIONS_BYTES: usize = 160 << 20, "bytes" {
        why: "A FLUTE session of 131,072 objects with long names takes 100 MB, live segments of ten representations some 60 MB, other sessions a few MB.",
        full: "On a thread that holds more than its part, a session of the lowest worth makes room. One of ROUTE gives up its oldest objects and segments as `over_budget`; one of FLUTE, or of ROUTE without any, is removed, and its next packet opens it again.",
        free: "At once; objects age by MAX_OBJECT_AGE and MAX_MEDIA_AGE, segments by MAX_SEGMENT_AGE, sessions by their silence.",
        test: "untrusted_route_senders_that_fill_the_memory_and_trickle_cost_honest_sessions_nothing",
    }

    /// One object name.
    pub const MAX_URI_BYTES: usize = 8_192, "bytes" {
        why: "RFC 9110 section 4.1 asks for at least 8,000 octets of URI; the longest on air has 230.",
        full: "The name is refused: the file is counted as unusable, a request gets 400 or 414.",
        free: "Holds for one name.",
        test: "refuses_what_escapes_hides_or_means_nothing",
    }

    /// One XML document that is held as a tree: gateway configurations, entry points.
    pub const MAX_XML_BYTES: usize = 8 << 20, "bytes" {
        why: "The largest seen has 87 KB.",
        full: "The document is refused as too large.",
        free: "Holds for one document.",
        test: "refuses_what_is_not_a_bounded_document",
    }

    /// One XML document that is read element by element: service lists, guides.
    pub const MAX_LONG_XML_BYTES: usize = 64 << 20, "bytes" {
        why: "A list of 10,000 services has 25 MB, a guide of a week for 300 channels 40 MB.",
        full: "The document is refused as too large.",
        free: "Holds for one document.",
        test: "a_long_document_beyond_the_limit_is_refused_and_the_next_is_read",
    }

    /// Nesting of XML elements.
    pub const MAX_XML_DEPTH: usize = 64, "levels" {
        why: "DVB-I needs 12.",
        full: "The document is refused as too large.",
        free: "Holds for one document.",
        test: "refuses_what_is_not_a_bounded_document",
    }

    /// Memory of the elements of one XML document that are held at a time, beyond [`MAX_XML_TREE_ANY_BYTES`].
    pub const MAX_XML_TREE_BYTES: usize = 64 << 20, "bytes" {
        why: "Documents of our own take three to eight times their length; a name space of 1 KB at the root is held once for each element.",
        full: "The document is refused as too large.",
        free: "Holds for one document.",
        test: "a_document_whose_elements_take_too_much_memory_is_refused",
    }

    /// Memory of the elements of one XML document up to which any ratio to its length is taken; beyond it they take
    /// [`MAX_XML_TREE_RATIO`] times its length at most.
    pub const MAX_XML_TREE_ANY_BYTES: usize = 1 << 20, "bytes" {
        why: "As much as some 5,000 elements without content.",
        full: "The document is refused as too large.",
        free: "Holds for one document.",
        test: "a_document_whose_elements_take_too_much_memory_is_refused",
    }

    /// Ratio of the memory of the elements of one XML document to its length.
    pub const MAX_XML_TREE_RATIO: usize = 16, "times" {
        why: "An element of 20 characters takes some 150 bytes.",
        full: "The document is refused as too large.",
        free: "Holds for one document.",
        test: "a_document_whose_elements_take_too_much_memory_is_refused",
    }

    /// PIDs of a transport stream whose sections are reassembled at a time.
    pub const MAX_SECTION_PIDS: usize = 192, "PIDs" {
        why: "Tables and programmes of a full multiplex take some 30, carousels and IP a few more; 4 KiB each.",
        full: "The PID is not opened and counted as `too_many_pids`.",
        free: "When the tables no longer name a PID.",
        test: "pids_are_opened_and_closed_in_any_order_up_to_the_limit",
    }

    /// PIDs that no PMT names and that are examined because sections of ours seem to begin in them.
    pub const MAX_UNDECLARED_PIDS: usize = 32, "PIDs" {
        why: "Recordings of single services have a few; a hostile stream could use all 8,000.",
        full: "The PID is not opened and counted as `too_many_pids`.",
        free: "When a section of the PID is wrong, or a PMT names it.",
        test: "all_pids_at_once_are_bounded_and_counted",
    }

    /// Programmes of a transport stream.
    pub const MAX_PROGRAMS: usize = 128, "programmes" {
        why: "A PAT section has room for 253; the fullest multiplexes have 80.",
        full: "The programme is ignored and counted as `too_many_programs`.",
        free: "When a new version of the PAT arrives.",
        test: "all_pids_at_once_are_bounded_and_counted",
    }

    /// DSM-CC carousels of one transport stream.
    pub const MAX_CAROUSELS: usize = 32, "carousels" {
        why: "A multiplex has one for each interactive service.",
        full: "The carousel is ignored and counted as `too_many_carousels`.",
        free: "When the tables no longer name a carousel's PID.",
        test: "carousels_beyond_the_limit_are_counted_and_the_others_received",
    }

    /// DIIs of one carousel.
    pub const MAX_DOWNLOAD_INFOS: usize = 4_608, "DIIs" {
        why: "A DII describes some 15 to 100 modules; 16 bits of module id cannot tell more modules apart.",
        full: "The quarter of the DIIs that were repeated longest ago makes room, with its modules: `too_many_infos`.",
        free: "When a DII is no longer repeated and another one needs the place.",
        test: "a_carousel_that_changes_its_download_id_forever_is_received_to_the_last",
    }

    /// Modules of one carousel.
    pub const MAX_MODULES: usize = 65_536, "modules" {
        why: "16 bits of module id cannot tell more apart; a module costs about 200 bytes.",
        full: "As for DIIs; a module is dropped as `too_many_modules` if there is no other DII.",
        free: "When a DII no longer lists a module, or is no longer repeated.",
        test: "a_carousel_that_changes_its_download_id_forever_is_received_to_the_last",
    }

    /// Modules of one carousel under reassembly at a time.
    pub const MAX_MODULES_OPEN: usize = 256, "modules" {
        why: "Carousels interleave a handful; each costs its buffer.",
        full: "Modules that had none of the last 16,384 blocks make room, as `idle`; if there are none, the block is dropped as `no_room`.",
        free: "When a module is complete, replaced or no longer sent.",
        test: "modules_that_are_never_completed_make_room",
    }

    /// Blocks kept for modules that no DII has described yet, for each carousel.
    pub const MAX_EARLY_BLOCK_BYTES: usize = 2 << 20, "bytes" {
        why: "One second of 16 Mbit/s.",
        full: "The oldest blocks make room and are counted as `early_block`.",
        free: "When their DII arrives, or newer blocks need the room.",
        test: "early_blocks_age_whatever_their_size",
    }

    /// Complete modules of one carousel that wait for the directory that names their files.
    pub const MAX_MODULES_HELD_BYTES: u64 = 64 << 20, "bytes" {
        why: "Directories come with each cycle; a large cycle has some 60 MB.",
        full: "Held modules are dropped as `held_too_long` and received again.",
        free: "When the directory arrives, or newer modules need the room.",
        test: "modules_held_beyond_the_limit_are_received_again",
    }

    /// One module after zlib.
    pub const MAX_INFLATED_MODULE_BYTES: u32 = 64 << 20, "bytes" {
        why: "Objects beyond this are not worth compressing. Beyond MAX_INFLATED_BYTES, MAX_INFLATE_RATIO counts too.",
        full: "The module is dropped as `inflate`.",
        free: "Holds for one module.",
        test: "a_module_is_inflated_in_pieces_into_storage_that_its_ratio_allows",
    }

    /// Memory of all directory entries of one carousel.
    pub const MAX_CAROUSEL_BINDING_BYTES: usize = 64 << 20, "bytes" {
        why: "131,072 files with names and descriptions of 500 bytes.",
        full: "Further directories are ignored and counted as `too_many_names`.",
        free: "When a module with directories is replaced or gone.",
        test: "bindings_beyond_the_limit_are_counted_and_leave_room_when_they_go",
    }

    /// Files of one carousel.
    pub const MAX_CAROUSEL_NAMES: usize = 131_072, "files" {
        why: "A reference catalogue has 100,000; an entry costs about 300 bytes.",
        full: "Files that no directory and no module names any more make room; beyond that a file is dropped as `too_many_names`.",
        free: "When a file is removed from the carousel.",
        test: "names_that_are_gone_make_room",
    }

    /// Nesting of directories in a carousel.
    pub const MAX_CAROUSEL_DEPTH: usize = 32, "levels" {
        why: "Paths on air have up to 6 segments.",
        full: "The directory is not entered and counted as `loop`.",
        free: "Holds for one walk of the directories.",
        test: "directories_nested_too_deeply_are_counted",
    }

    /// MPE datagrams of several sections under reassembly at a time, for each PID.
    pub const MAX_PDUS_OPEN: usize = 256, "datagrams" {
        why: "Senders interleave a few; up to 64 KiB each.",
        full: "The datagram that received a section longest ago is dropped as `too_many_open`.",
        free: "When a datagram is complete, contradicted, or replaced.",
        test: "datagrams_begun_and_never_ended_make_room",
    }

    /// Bytes of the MPE datagrams of several sections under reassembly, of all PIDs of a transport stream.
    pub const MAX_PDU_BYTES_OPEN: usize = 2 << 20, "bytes" {
        why: "32 of the longest; senders interleave a few.",
        full: "Of the PID that has the most bytes, the datagram that received a section longest ago is dropped as `too_many_open`.",
        free: "When a datagram is complete, contradicted, or replaced.",
        test: "datagrams_begun_on_many_pids_are_bounded_in_memory",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (most, expected) in [(0, ""), (1, "a"), (2, "a"), (3, "aä"), (5, "aä"), (6, "aä€"), (7, "aä€")]
        {
            assert_eq!(cut("aä€", most), expected, "{most}");
        }
    }
}
