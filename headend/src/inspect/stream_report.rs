//! Transport streams in the report, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use carousel::digest::to_hex;
use carousel::multiplex::Component;
use carousel::ts::Pid;
use carousel::ts::psi::{self, Oui, SoftwareUpdate, UpdateLink};
use serde_json::{Value, json};

use super::stream::{CarouselReport, Repeated, StreamReport};
use crate::units::human_bytes;

/// Modules listed in the table; JSON has all.
const TABLE_MODULES: usize = 40;

/// Purpose of a PID.
fn purpose(stream: &StreamReport, pid: Pid) -> String {
    let tables = stream.multiplex().tables();
    match pid {
        Pid::PAT => return "PAT".to_owned(),
        Pid::NIT => return "NIT".to_owned(),
        Pid::SDT => return "SDT".to_owned(),
        Pid::TDT => return "TDT, TOT".to_owned(),
        Pid::NULL => return "stuffing".to_owned(),
        _ => {}
    }
    if let Some((service_id, _)) = tables.programs.iter().find(|(_, program)| program.pmt_pid == pid) {
        return format!("PMT of service {service_id}");
    }
    let carries_ip = stream.multiplex().mpe().any(|(it, _)| it == pid);
    let carries_carousel = stream.carousels().any(|it| it.pid == pid);
    let component = tables.component(pid);
    let of = match component.as_ref().and_then(|it| it.service_id) {
        Some(service_id) => format!(" of service {service_id}"),
        None if carries_ip || carries_carousel => ", in no PMT".to_owned(),
        None => String::new(),
    };
    let what = match (carries_carousel, carries_ip) {
        (true, _) => "carousel".to_owned(),
        (false, true) => "IP (MPE)".to_owned(),
        (false, false) => match component.as_ref().and_then(|it| it.stream_type) {
            None => "unknown".to_owned(),
            Some(stream_type) => stream_type_name(stream_type),
        },
    };
    let undeclared = carries_carousel && component.as_ref().is_none_or(|it| !it.is_declared());
    format!("{what}{of}{}", if undeclared { ", undeclared" } else { "" })
}

fn stream_type_name(stream_type: u8) -> String {
    match stream_type {
        0x01 | 0x02 => "MPEG-2 video",
        0x03 | 0x04 => "MPEG audio",
        psi::STREAM_TYPE_PRIVATE_SECTIONS => "private sections",
        0x06 => "private data",
        psi::STREAM_TYPE_CAROUSEL => "DSM-CC messages",
        0x0c => "DSM-CC stream descriptors",
        psi::STREAM_TYPE_DSMCC_SECTIONS => "DSM-CC sections",
        0x0f | 0x11 => "AAC audio",
        0x1b => "AVC video",
        0x24 => "HEVC video",
        other => return format!("stream type {other:#04x}"),
    }
    .to_owned()
}

/// Kinds and counts that are not 0.
fn counts<'a>(all: impl Iterator<Item = (&'a str, u64)>) -> BTreeMap<&'a str, u64> {
    all.filter(|(_, count)| *count > 0).collect()
}

/// Drops of a stream, by reason.
fn dropped(stream: &StreamReport) -> BTreeMap<&'static str, u64> {
    let frames =
        stream.deframer().into_iter().flat_map(|it| it.dropped().map(|(why, count)| (why.as_str(), count)));
    let mut sum = BTreeMap::new();
    let datagrams = stream.datagrams_dropped().map(|(why, count)| (why.as_str(), count));
    for (why, count) in stream.multiplex().dropped().chain(frames).chain(datagrams) {
        *sum.entry(why).or_insert(0) += count;
    }
    counts(sum.into_iter())
}

/// System software updates of a stream, by its PMT.
fn updates_json(updates: &[SoftwareUpdate]) -> Value {
    let one = |it: &SoftwareUpdate| {
        json!({ "oui": it.oui.to_string(), "update_type": it.update_type.bits(), "version": it.version,
                "selector": to_hex(&it.selector) })
    };
    updates.iter().map(one).collect()
}

/// Services with system software updates, by the NIT.
fn links_json(links: &[UpdateLink]) -> Value {
    let maker =
        |(oui, selector): &(Oui, Vec<u8>)| json!({ "oui": oui.to_string(), "selector": to_hex(selector) });
    let one = |it: &UpdateLink| {
        let [stream, network, service] = it.location;
        json!({ "transport_stream_id": stream, "original_network_id": network, "service_id": service,
                "makers": it.makers.iter().map(maker).collect::<Vec<_>>() })
    };
    links.iter().map(one).collect()
}

fn component_json(component: &Component) -> Value {
    json!({
        "component_tag": component.component_tag, "carousel_id": component.carousel_id,
        "data_broadcast_id": component.data_broadcast_id, "service_id": component.service_id,
        "declared": component.is_declared(), "software_updates": updates_json(&component.software_updates),
    })
}

fn carousel_json(stream: &StreamReport, carousel: &CarouselReport) -> Value {
    let repetition = |turning: &Repeated| {
        carousel.repetitions.get(turning).map_or(Value::Null, |it| {
            let has_times = stream.duration_s() > 0.0;
            json!({
                "count": it.count, "period_s": it.period_s().filter(|_| has_times),
                "longest_s": Some(it.longest_s).filter(|_| has_times && it.count > 1),
            })
        })
    };
    let infos = carousel.repetitions.keys().filter_map(|it| match it {
        Repeated::Info(identification) => Some(json!({
            "identification": identification, "repetition": repetition(it),
        })),
        _ => None,
    });
    let modules = carousel.modules().map(|module| {
        json!({
            "download_id": module.id.0, "module_id": module.id.1, "version": module.version, "size": module.size,
            "original_size": module.original_size, "blocks": module.blocks, "missing": module.missing,
            "repetition": repetition(&Repeated::Module(module.id.0, module.id.1)),
        })
    });
    let mut json = json!({
        "pid": carousel.pid.get(), "kind": carousel.is_object_carousel.map(|it| if it { "object" } else { "data" }),
        "download_id": carousel.download_id, "files": carousel.files, "dsi": repetition(&Repeated::Initiate),
        "dii": infos.collect::<Vec<_>>(), "modules": modules.collect::<Vec<_>>(),
        "dropped": carousel.dropped().collect::<BTreeMap<_, _>>(), "declared": false,
    });
    if let (Some(component), Some(json)) =
        (stream.multiplex().tables().component(carousel.pid), json.as_object_mut())
        && let Value::Object(own) = component_json(&component)
    {
        json.extend(own);
    }
    json
}

/// One stream as JSON.
pub(super) fn stream_json(stream: &StreamReport) -> Value {
    let tables = stream.multiplex().tables();
    let programmes = tables.programs.iter().map(|(service_id, program)| {
        let service = tables.services.get(service_id);
        let streams = program.pmt.iter().flat_map(|pmt| &pmt.streams).map(|it| {
            json!({
                "pid": it.pid.get(), "stream_type": it.stream_type, "component_tag": it.component_tag(),
                "data_broadcast_id": it.data_broadcast_id(), "carousel_id": it.carousel_id(),
                "software_updates": updates_json(&it.software_updates()),
            })
        });
        json!({
            "service_id": service_id, "pmt_pid": program.pmt_pid.get(), "name": service.map(|it| &it.name),
            "provider": service.map(|it| &it.provider), "streams": streams.collect::<Vec<_>>(),
        })
    });
    let pids = stream.multiplex().demux().counts().map(|(pid, count)| {
        json!({
            "pid": pid.get(), "packets": count.packets, "rate_bps": stream.bps(count.packets),
            "share": count.packets as f64 / stream.packets().max(1) as f64,
            "continuity_errors": count.discontinuities, "scrambled": count.is_scrambled(),
            "purpose": purpose(stream, pid),
        })
    });
    let rtp = stream.rtp().map(|it| {
        json!({ "packets": it.packets, "lost": it.lost, "reordered": it.reordered, "late": it.late, "restarts": it.restarts })
    });
    json!({
        "group": stream.address.map(|it| it.ip().to_string()), "port": stream.address.map(|it| it.port()),
        "packets": stream.packets(), "frames": stream.frames(), "duration_s": stream.duration_s(),
        "rate_bps": stream.bps(stream.packets()), "transport_stream_id": tables.transport_stream_id,
        "original_network_id": tables.original_network_id, "network": tables.network.as_ref().map(|it| &it.name),
        "network_id": tables.network.as_ref().map(|it| it.network_id), "rtp": rtp,
        "software_update_links": links_json(tables.network.as_ref().map_or(&[], |it| &it.updates)),
        "split_packets": stream.split_packets(), "dropped": dropped(stream),
        "wrong_digests": stream.wrong, "left_out": stream.left_out, "programmes": programmes.collect::<Vec<_>>(),
        "pids": pids.collect::<Vec<_>>(),
        "carousels": stream.carousels().map(|it| carousel_json(stream, it)).collect::<Vec<_>>(),
    })
}

fn mbit(bps: Option<f64>) -> String {
    bps.map_or_else(|| "-".to_owned(), |bps| format!("{:.3}", bps * 1e-6))
}

fn seconds(period: Option<f64>) -> String {
    period.map_or_else(|| "-".to_owned(), |period| format!("{period:.2}"))
}

/// Appends one stream as a table.
pub(super) fn stream_table(stream: &StreamReport, out: &mut String) {
    let tables = stream.multiplex().tables();
    let address = stream.address.map_or_else(String::new, |address| format!(" {address}"));
    if stream.frames() > 0 {
        let _ = writeln!(out, "baseband frames{address}: {} frames", stream.frames());
    }
    if stream.packets() > 0 {
        let _ = writeln!(
            out,
            "transport stream{address}: {} packets, {} Mbit/s",
            stream.packets(),
            mbit(stream.bps(stream.packets()))
        );
        let id = |id: Option<u16>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let network = tables.network.as_ref().map(|it| it.name.as_str()).unwrap_or_default();
        let ids = (id(tables.transport_stream_id), id(tables.original_network_id));
        let _ = writeln!(out, "  TSID {}, original network {} {network}", ids.0, ids.1);
    }
    if let Some(it) = stream.rtp() {
        let _ = writeln!(
            out,
            "  RTP: {} packets, lost {}, out of order {}, late {}",
            it.packets, it.lost, it.reordered, it.late
        );
    }
    if stream.split_packets() > 0 {
        let split = stream.split_packets();
        let _ = writeln!(
            out,
            "  {split} packets split between two datagrams: a datagram that is lost costs nine packets; send multiples of 188 bytes (FFmpeg: pkt_size=1316)"
        );
    }
    for (why, count) in dropped(stream) {
        let _ = writeln!(out, "  {count} unusable: {why}");
    }
    if stream.wrong > 0 {
        let _ = writeln!(out, "  {} FILES WITH A WRONG DIGEST", stream.wrong);
    }
    for (service_id, program) in &tables.programs {
        let service = tables.services.get(service_id);
        let name = service.map_or_else(String::new, |it| format!(" {} ({})", it.name, it.provider));
        let missing = if program.pmt.is_none() { ", its PMT has not come" } else { "" };
        let _ = writeln!(out, "  service {service_id}{name}, PMT on PID {}{missing}", program.pmt_pid);
    }
    if stream.packets() > 0 {
        let _ =
            writeln!(out, "  {:>5} {:>10} {:>9} {:>6} {:>6}  what", "PID", "packets", "Mbit/s", "%", "gaps");
    }
    for (pid, count) in stream.multiplex().demux().counts() {
        let _ = writeln!(
            out,
            "  {:>5} {:>10} {:>9} {:>6.2} {:>6}  {}{}",
            pid,
            count.packets,
            mbit(stream.bps(count.packets)),
            count.packets as f64 * 100.0 / stream.packets().max(1) as f64,
            count.discontinuities,
            purpose(stream, pid),
            if count.is_scrambled() { ", scrambled" } else { "" }
        );
    }
    for carousel in stream.carousels() {
        carousel_table(stream, carousel, out);
    }
}

fn carousel_table(stream: &StreamReport, carousel: &CarouselReport, out: &mut String) {
    let has_times = stream.duration_s() > 0.0;
    let period = |turning: &Repeated| {
        carousel.repetitions.get(turning).and_then(super::stream::Repetition::period_s).filter(|_| has_times)
    };
    let kind = match carousel.is_object_carousel {
        Some(true) => "object carousel",
        Some(false) => "data carousel",
        None => "carousel without DSI and DII",
    };
    let modules: Vec<_> = carousel.modules().collect();
    let whole = modules.iter().filter(|it| it.missing == 0).count();
    let id = carousel.download_id.map_or_else(String::new, |id| format!(", carousel id {id}"));
    let component = stream.multiplex().tables().component(carousel.pid);
    let declared = if component.as_ref().is_some_and(Component::is_declared) { "" } else { ", undeclared" };
    let _ = writeln!(
        out,
        "  {kind} on PID {}{id}{declared}: {} files, {whole} of {} modules complete, DSI every {} s",
        carousel.pid,
        carousel.files,
        modules.len(),
        seconds(period(&Repeated::Initiate))
    );
    for update in component.iter().flat_map(|it| &it.software_updates) {
        let _ = writeln!(out, "    software update for receivers of {}", update.oui);
    }
    for (why, count) in carousel.dropped() {
        let _ = writeln!(out, "    {count} unusable: {why}");
    }
    let _ = writeln!(
        out,
        "    {:>6} {:>7} {:>10} {:>7} {:>7} {:>8}",
        "module", "version", "bytes", "blocks", "missing", "every s"
    );
    for module in modules.iter().take(TABLE_MODULES) {
        let compressed = module
            .original_size
            .map_or_else(String::new, |size| format!("  {} unpacked", human_bytes(u64::from(size))));
        let _ = writeln!(
            out,
            "    {:>6} {:>7} {:>10} {:>7} {:>7} {:>8}{compressed}",
            module.id.1,
            module.version,
            module.size,
            module.blocks,
            module.missing,
            seconds(period(&Repeated::Module(module.id.0, module.id.1)))
        );
    }
    if modules.len() > TABLE_MODULES {
        let _ = writeln!(out, "    … and {} more; --json lists all", modules.len() - TABLE_MODULES);
    }
}
