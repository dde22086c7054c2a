//! Output of `skycached status` and `ls` on a terminal: tables of 80 columns made of the daemon's JSON.

use std::cmp::Ordering;
use std::fmt::Write as _;

use carousel::config::quantity::{grouped, scaled};
use carousel::mabr::playback_path_matches;
use carousel::time::WallTime;
use serde_json::Value;

use crate::certificates::WARNING_DAYS;
use crate::cli::{Listing, Sort};

/// Columns of a terminal of the usual width.
const WIDTH: usize = 80;
/// Columns of the names at the left.
const MARGIN: usize = 11;

/// `999 B`, `1.2 MB`: decimal multiples, as disks and links are sold.
fn size(value: &Value) -> String {
    scaled(value.as_u64().unwrap_or(0) as f64, "B")
}

/// `1,800` of a number; `0` of anything else.
/// `1 object`, `2,000 objects`.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{} {thing}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// As [`counted`], of a member.
fn counted_of(value: &Value, thing: &str) -> String {
    counted(value.as_u64().unwrap_or(0), thing)
}

fn count(value: &Value) -> String {
    grouped(value.as_u64().unwrap_or(0))
}

/// `name count, …` of an object with counters; `none` if there are none.
fn listed(value: &Value) -> String {
    let one = |(name, number): (&String, &Value)| format!("{} {}", name.replace('_', " "), count(number));
    let all: Vec<String> = value.as_object().into_iter().flatten().map(one).collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

/// Rows of a name and a text that is wrapped beside it.
#[derive(Default)]
struct Rows(String);

impl Rows {
    fn row(&mut self, name: &str, text: &str) {
        let mut line = format!("{name:<10} ");
        let mut is_first = true;
        for word in text.split_whitespace() {
            let wide = line.chars().count() + word.chars().count() + usize::from(!is_first);
            if !is_first && wide > WIDTH {
                let _ = writeln!(self.0, "{line}");
                line = " ".repeat(MARGIN);
                is_first = true;
            }
            if !is_first {
                line.push(' ');
            }
            line.push_str(word);
            is_first = false;
        }
        let _ = writeln!(self.0, "{}", line.trim_end());
    }
}

/// Bytes written to flash, and the estimate of its life.
fn flash(store: &Value) -> String {
    let flash = &store["flash"];
    let mut text = format!("{} written today", size(&flash["today_bytes"]));
    if flash["budget_bytes_per_day"].as_u64() > Some(0) {
        let _ = write!(text, " of {} a day", size(&flash["budget_bytes_per_day"]));
    }
    let _ = write!(text, ", {} in total", size(&flash["total_bytes"]));
    if let Some(days) = flash["life_days"].as_f64() {
        let _ = write!(text, "; expected life {:.1} years", days / 365.25);
    }
    if store["disk"] != "fine" {
        let _ = write!(text, "; THE DISK IS {}", self::text(store, "disk").to_uppercase());
    }
    if store["unverified"].as_u64() > Some(0) {
        let _ = write!(text, "; {} not verified yet", counted_of(&store["unverified"], "object"));
    }
    text
}

/// Signers, in one line.
fn trust_line(trust: &Value) -> String {
    let keys = array(trust, "keys")
        .map(|key| format!("{} {}", text(key, "state"), text(key, "id")))
        .collect::<Vec<_>>();
    let keys = if keys.is_empty() { "no key".to_owned() } else { keys.join(", ") };
    format!(
        "{}: {keys}; accepted {}, refused: {}",
        text(trust, "mode"),
        count(&trust["accepted"]),
        listed(&trust["refused"])
    )
}

/// Keys that sign what is received.
pub fn trust(trust: &Value) -> String {
    let mut out = Rows::default();
    out.row("trust", &trust_line(trust));
    for key in array(trust, "keys") {
        let streams = key["streams"].as_array().map_or(0, Vec::len);
        let latest = key["latest"].as_str().map_or_else(String::new, |it| format!(", latest {it}"));
        let revoked = key["revoked"].as_array().map_or(0, Vec::len);
        out.row(
            text(key, "state"),
            &format!(
                "{}: {streams} sessions{latest}, revoked {revoked}\n{}",
                text(key, "id"),
                text(key, "key")
            ),
        );
    }
    out.0
}

/// The state of the daemon.
pub fn status(status: &Value) -> String {
    let receive = &status["receive"];
    let mut out = Rows::default();
    if status["draining"] == true {
        out.row(
            "draining",
            "about to end: health checks fail, and players are served until the listeners close",
        );
    }
    held_and_received(&mut out, status);
    fetched_and_served(&mut out, status);
    for group in array(receive, "groups") {
        let state = if group["error"].is_null() { text(group, "why") } else { text(group, "error") };
        let is_idle = group["error"].is_null() && group["joined"] == false;
        let idle = if is_idle { ", not joined: not requested" } else { "" };
        out.row("group", &format!("{}:{} {state}{idle}", text(group, "group"), group["port"]));
    }
    for service in array(status, "services") {
        out.row("service", &service_line(service));
    }
    for service in array(status, "live") {
        live_row(&mut out, service);
    }
    for list in array(&status["atsc"], "lists") {
        for service in array(list, "services") {
            out.row("atsc", &atsc_line(service));
        }
    }
    let is_silent = array(receive, "groups").next().is_some()
        && receive["datagrams"].as_u64() == Some(0)
        && receive["transport_streams"].as_array().is_none_or(Vec::is_empty);
    if is_silent {
        out.row(
            "silent",
            "nothing has arrived on any group yet; `skycached check` says whether the sender, the interface \
             or a filter is the reason",
        );
    }
    for stream in array(receive, "transport_streams") {
        transport_stream(&mut out, stream);
    }
    for session in array(receive, "sessions") {
        session_row(&mut out, session);
    }
    out.0
}

/// A service of ATSC.
fn atsc_line(service: &Value) -> String {
    let channel = service["channel"].as_str().map(|it| format!("{it} ")).unwrap_or_default();
    let state = match (service["left_out"].as_str(), service["manifest"].as_str()) {
        (Some(why), _) => format!("not received: {why}"),
        (None, Some(manifest)) => manifest.to_owned(),
        (None, None) => "its signalling has not come".to_owned(),
    };
    format!("{channel}{} ({}), {state}", text(service, "name"), text(service, "protocol"))
}

/// Rows of the cache, reception and objects in flight.
fn held_and_received(out: &mut Rows, status: &Value) {
    let (store, receive, flights) = (&status["store"], &status["receive"], &status["flights"]);
    out.row(
        "cache",
        &format!(
            "{}, {} of {} in {}; evicted: {}",
            counted_of(&store["objects"], "object"),
            size(&store["bytes"]),
            size(&store["quota_bytes"]),
            text(store, "path"),
            listed(&store["evicted"])
        ),
    );
    out.row("memory", &format!("{} of {}", size(&store["memory_bytes"]), size(&store["memory_quota_bytes"])));
    out.row("flash", &flash(store));
    let purges = &store["purges"];
    if purges["remembered"].as_u64() > Some(0) || purges["forgotten"].as_u64() > Some(0) {
        let forgotten = match purges["forgotten"].as_u64() {
            None | Some(0) => String::new(),
            Some(_) => format!(", {} FORGOTTEN for want of room", count(&purges["forgotten"])),
        };
        let (known, since) = (count(&purges["remembered"]), listed(&purges["since_start"]));
        out.row(
            "purges",
            &format!("{known} of the last two hours remembered{forgotten}; since the start: {since}"),
        );
    }
    out.row(
        "received",
        &format!(
            "{}, {} of them repaired; {}, {}; lost {}, dropped by the kernel {}",
            counted_of(&receive["objects"], "object"),
            count(&receive["objects_repaired"]),
            counted_of(&receive["datagrams"], "datagram"),
            size(&receive["bytes"]),
            counted_of(&receive["lost"], "packet"),
            count(&receive["kernel_drops"])
        ),
    );
    let held = (size(&receive["memory_bytes"]), size(&receive["memory_limit_bytes"]));
    out.row("sessions", &format!("{} of {} in memory", held.0, held.1));
    out.row(
        "in flight",
        &format!(
            "{}, announced {}; failed: {}",
            flights["now"].as_array().map_or(0, Vec::len),
            count(&flights["announced"]),
            listed(&flights["failed"])
        ),
    );
}

/// Rows of repair, origins, players, trust and catalogue.
fn fetched_and_served(out: &mut Rows, status: &Value) {
    let (repair, origin, http) = (&status["repair"], &status["origin"], &status["http"]);
    out.row(
        "repair",
        &format!(
            "{} in {}; {}",
            size(&repair["bytes"]),
            counted_of(&repair["requests"], "request"),
            listed(&repair["outcomes"])
        ),
    );
    out.row(
        "origin",
        &format!(
            "{}, {}; failures: {}; not kept: {}",
            counted_of(&origin["requests"], "request"),
            size(&origin["bytes"]),
            listed(&origin["failures"]),
            listed(&origin["not_kept"])
        ),
    );
    for url in array(origin, "open_circuits").filter_map(Value::as_str) {
        out.row("origin", &format!("{url} FAILS: it gets health checks alone until it answers one"));
    }
    for group in array(origin, "parents") {
        out.row("parents", &parents(group));
    }
    out.row(
        "players",
        &format!(
            "{}; responses: {}; hits {}",
            counted_of(&http["connections"], "connection"),
            listed(&http["responses"]),
            count(&http["hits"])
        ),
    );
    let is_any = |counts: &Value| counts.as_object().is_some_and(|it| !it.is_empty());
    if is_any(&origin["no_place"]) || is_any(&http["sent_to_cdn"]) {
        let (refused, sent) = (listed(&origin["no_place"]), listed(&http["sent_to_cdn"]));
        out.row("overload", &format!("fetches refused: {refused}; players sent to the CDN: {sent}"));
    }
    if let Some(update) = update_line(&status["firmware"]) {
        out.row("firmware", &update);
    }
    for certificate in array(status, "certificates") {
        out.row("certificate", &certificate_line(certificate));
    }
    out.row("trust", &trust_line(&status["trust"]));
    let catalog = &status["catalog"];
    out.row(
        "catalogue",
        &format!(
            "lists {}, titles {}, entries of the guide {}; left out: {}",
            count(&catalog["lists"]),
            count(&catalog["titles"]),
            count(&catalog["guide_entries"]),
            listed(&catalog["left_out"])
        ),
    );
}

/// Certificate of a listener, and its remaining life.
fn certificate_line(certificate: &Value) -> String {
    let of = format!("[{}] {}", text(certificate, "listener"), text(certificate, "file"));
    let until = text(certificate, "not_after");
    match (certificate["error"].as_str(), certificate["days_left"].as_i64()) {
        (Some(why), _) => format!("{of}: CANNOT BE READ: {why}"),
        (_, None) => format!("{of}: until {until}"),
        (_, Some(days)) if days < 0 => format!("{of}: ENDED {until}"),
        (_, Some(days)) if days < WARNING_DAYS => format!("{of}: ONLY {days} DAYS LEFT, until {until}"),
        (_, Some(days)) => format!("{of}: {days} days left, until {until}"),
    }
}

/// The row of one live service.
fn live_row(out: &mut Rows, service: &Value) {
    let mut line = format!("{}: {}", text(service, "service"), text(service, "state"));
    if let Some(ms) = service["segment_age_ms"].as_i64() {
        let _ = write!(line, ", segment age {:.1} s", ms as f64 / 1000.0);
    }
    match (service["latency_ms"].as_i64(), &service["dated"]) {
        (Some(ms), _) => drop(write!(line, ", latency {:.1} s", ms as f64 / 1000.0)),
        (None, Value::Bool(false)) => line.push_str(", latency unknown (no date in the playlist)"),
        (None, _) => line.push_str(", latency unknown (this box has no date)"),
    }
    let number = |name: &str| count(&service[name]);
    let _ = write!(
        line,
        "; segments {}, deadline misses {}, repaired in time {}, from origin {}",
        number("segments"),
        number("deadline_misses"),
        number("repaired"),
        number("from_origin")
    );
    out.row("live", &line);
}

/// The row of one session.
fn session_row(out: &mut Rows, session: &Value) {
    let recovered = match session["recovered"].as_u64() {
        None | Some(0) => String::new(),
        Some(symbols) => format!(", {symbols} symbols recovered"),
    };
    let from = format!(
        "{}:{} from {} TSI {}",
        text(session, "group"),
        session["port"],
        text(session, "source"),
        session["tsi"]
    );
    let (packets, bytes) = (count(&session["packets"]), size(&session["bytes"]));
    let in_flight = count(&session["in_flight"]);
    let state = if session["protocol"] == "ROUTE" {
        let (complete, failed) = (count(&session["complete"]), count(&session["failed"]));
        format!(
            "ROUTE, {packets} packets, {bytes}; {complete} complete, {failed} failed, {in_flight} in flight"
        )
    } else {
        let (lost, described) = (count(&session["lost"]), count(&session["described"]));
        let dropped = listed(&session["dropped"]);
        format!(
            "{packets} packets, {bytes}, lost {lost}{recovered}; {described} described, {in_flight} in flight; dropped: {dropped}"
        )
    };
    out.row("session", &format!("{from}: {state}"));
}

/// A group of parents, and those that get no requests.
fn parents(group: &Value) -> String {
    let members: Vec<&Value> = array(group, "members").collect();
    let down: Vec<String> = members
        .iter()
        .filter(|it| it["up"] == false)
        .map(|it| format!("{} IS NOT ASKED", text(it, "url")))
        .collect();
    let state = match (group["enabled"] == false, down.is_empty()) {
        (true, _) => "left out by enabled = false".to_owned(),
        (false, true) => format!("{} asked", members.len()),
        (false, false) => {
            format!("{} of {} asked, {}", members.len() - down.len(), members.len(), down.join(", "))
        }
    };
    let sum = |name: &str| members.iter().filter_map(|it| it[name].as_u64()).sum::<u64>().into();
    format!(
        "{}: {state}; {} requests, {} failures, {} went on to others, {} asked twice",
        text(group, "name"),
        count(&sum("requests")),
        count(&sum("failures")),
        count(&group["failed_over"]),
        count(&group["hedged"])
    )
}

fn service_line(service: &Value) -> String {
    let joined = match (&service["joined"], service["refused"].as_str()) {
        (Value::Bool(true), _) => "joined".to_owned(),
        (_, Some(why)) => format!("not joined ({})", why.replace('_', " ")),
        _ => "not joined".to_owned(),
    };
    let rate = service["rate_bps"].as_u64().filter(|bps| *bps > 0);
    let rate = rate.map(|bps| format!(", {:.1} Mbit/s", bps as f64 / 1e6)).unwrap_or_default();
    format!("{}: {joined}{rate}", text(service, "id"))
}

fn transport_stream(out: &mut Rows, stream: &Value) {
    let signal = &stream["signal"];
    let measured = |name: &str, unit: &str| {
        signal[name].as_f64().map_or_else(String::new, |value| format!(", {value:.1} {unit}"))
    };
    let lock = match signal["locked"].as_bool() {
        Some(true) => ", lock",
        Some(false) => ", NO LOCK",
        None => "",
    };
    let split = match stream["split_packets"].as_u64() {
        None | Some(0) => String::new(),
        Some(packets) => format!("; {packets} packets split between datagrams: send multiples of 188 bytes"),
    };
    let state = if stream["error"].is_null() {
        format!(
            "{} packets, {} frames{lock}{}{}{}{}; {} gaps; {} datagrams, {} files; dropped: {}{split}",
            count(&stream["packets"]),
            count(&stream["frames"]),
            measured("strength_dbm", "dBm"),
            measured("strength_percent", "% strength"),
            measured("snr_db", "dB C/N"),
            measured("quality_percent", "% quality"),
            count(&stream["continuity_errors"]),
            count(&stream["datagrams"]),
            count(&stream["files"]),
            listed(&stream["dropped"])
        )
    } else {
        text(stream, "error").to_owned()
    };
    out.row("stream", &format!("{} {state}", text(stream, "from")));
    for carousel in array(stream, "carousels") {
        out.row(
            "carousel",
            &format!(
                "PID {}: {} of {} modules complete, {} files under {}",
                carousel["pid"],
                carousel["modules_whole"],
                carousel["modules"],
                carousel["files"],
                text(carousel, "base")
            ),
        );
    }
}

/// Selects and sorts the objects that `listing` asks for.
pub fn select(objects: &mut Value, listing: &Listing) {
    let matches = |object: &Value| {
        listing.filter.as_ref().is_none_or(|filter| {
            let key = text(object, "key");
            if filter.contains(['*', '?']) {
                playback_path_matches(filter, key)
            } else {
                key.contains(filter.as_str())
            }
        })
    };
    let number = |object: &Value, name: &str| object[name].as_u64().unwrap_or(0);
    let by = |a: &Value, b: &Value| -> Ordering {
        let by_key = || text(a, "key").cmp(text(b, "key"));
        let order = match listing.sort {
            Sort::Key => Ordering::Equal,
            // The largest, the most used and the newest first, as the most interesting.
            Sort::Size => number(b, "length").cmp(&number(a, "length")),
            Sort::Uses => number(b, "uses").cmp(&number(a, "uses")),
            Sort::Received => text(b, "received_at").cmp(text(a, "received_at")),
            // Objects that never expire come last.
            Sort::Expires => {
                let of =
                    |it: &Value| it["expires"].as_str().map_or((1, String::new()), |at| (0, at.to_owned()));
                of(a).cmp(&of(b))
            }
        };
        order.then_with(by_key)
    };
    for (name, most) in [("objects", listing.limit), ("in_flight", 0)] {
        if let Some(list) = objects[name].as_array_mut() {
            list.retain(matches);
            list.sort_by(by);
            if most > 0 {
                list.truncate(most);
            }
        }
    }
}

/// `in 3 h`, `2 min ago`, `never`; `now_ms` is the time in Unix milliseconds.
fn expiry(object: &Value, now_ms: i64) -> String {
    let Some(at) = object["expires"].as_str().and_then(WallTime::from_xml) else { return "never".to_owned() };
    let seconds = (at.unix_ms() - now_ms) / 1000;
    let span = match seconds.unsigned_abs() {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    };
    if seconds < 0 { format!("{span} ago") } else { format!("in {span}") }
}

/// Objects of the cache, then those in flight.
pub fn objects(objects: &Value, now: WallTime) -> String {
    let mut out =
        format!("{:>9}  {:<6} {:<8} {:<8} {:<10} key\n", "size", "tier", "class", "came by", "expires");
    for object in array(objects, "objects") {
        let _ = writeln!(
            out,
            "{:>9}  {:<6} {:<8} {:<8} {:<10} {}{}",
            size(&object["length"]),
            text(object, "tier"),
            text(object, "class"),
            text(object, "came_by"),
            expiry(object, now.unix_ms()),
            text(object, "key"),
            if object["pinned"] == true { "  (pinned)" } else { "" }
        );
    }
    for flight in array(objects, "in_flight") {
        // A live object in pieces has no length before its end.
        let (sized, state) = match flight["length"].as_u64() {
            Some(length) => {
                let received = flight["received_bytes"].as_u64().unwrap_or(0).min(length);
                (&flight["length"], format!("{:>3} %", received * 100 / length.max(1)))
            }
            None => (&flight["received_bytes"], "so far".to_owned()),
        };
        let _ = writeln!(
            out,
            "{:>9}  in flight, {state} from the {:<8} {}",
            size(sized),
            text(flight, "from"),
            text(flight, "key")
        );
    }
    out
}

/// `skycached firmware …`: a line for each member, and one for each image.
pub fn firmware(value: &Value) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<12}{text}");
    };
    let is_row = |key: &str| !matches!(key, "schema" | "offered" | "error");
    for (key, member) in value.as_object().into_iter().flatten().filter(|(key, _)| is_row(key)) {
        match member {
            Value::String(text) => row(key, text),
            Value::Number(count) => row(key, &count.to_string()),
            Value::Object(counts) => {
                for (reason, count) in counts {
                    row(key, &format!("{reason}: {count}"));
                }
            }
            Value::Bool(is) => row(key, if *is { "yes" } else { "no" }),
            Value::Array(images) => {
                for image in images {
                    let name = format!("slot {}", text(image, "slot"));
                    row(&name, &format!("{}, {}", text(image, "name"), text(image, "state")));
                }
            }
            _ => {}
        }
    }
    let offered = &value["offered"];
    if let Some(why) = value["error"].as_str() {
        row("offers", &format!("unknown: {why}"));
    } else if offered["offers"].as_array().is_some_and(Vec::is_empty) {
        row("offers", "none");
    }
    let lacks = offered["lacks"].as_array().map_or(&[][..], Vec::as_slice);
    for offer in offered["offers"].as_array().into_iter().flatten() {
        let share = offer["share_percent"].as_f64().unwrap_or(0.0);
        let held = offer["held"].as_str().map(|why| format!(": {why}")).unwrap_or_default();
        let (version, compatible) = (text(offer, "version"), text(offer, "compatible"));
        row(
            "offer",
            &format!("{version} for {compatible}, {}, {share} % of boxes{held}", size(&offer["length"])),
        );
    }
    if let Some(line) = update_line(offered) {
        let update = &offered["update"];
        row("update", &line);
        // A missing program is among the missing conditions.
        if update["held"] == "later" || (update["held"] == "program" && lacks.is_empty()) {
            row("why", text(offered, "why"));
        }
    }
    for over in offered["over"].as_array().into_iter().flatten() {
        let end = if over["installed"] == true { "installed" } else { text(over, "why") };
        row("over", &format!("{}: {end}", text(over, "version")));
    }
    for lack in lacks {
        row("not taken", &format!("{}; {}", text(lack, "what"), text(lack, "fix")));
    }
    out
}

/// The update that a box follows, of the state of its updates.
fn update_line(state: &Value) -> Option<String> {
    let update = Some(&state["update"]).filter(|it| !it.is_null())?;
    let held = update["held"].as_str().map(|why| format!(", {why}")).unwrap_or_default();
    let (received, length) = (size(&update["received_bytes"]), size(&update["length"]));
    let (version, phase) = (text(update, "version"), text(update, "phase"));
    Some(format!("{version}, {phase}, {received} of {length}{held}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn firmware_that_is_not_offered_not_taken_or_not_known_is_said_so() {
        let lacks = json!([{ "what": "/x: there is no such program", "fix": "name a program" }]);
        let none = json!({ "offers": [], "update": null, "over": [], "lacks": [] });
        let with = |key: &str, value: Value| {
            let mut offered = none.clone();
            offered[key] = value;
            offered
        };
        let shown = |offered: Value| {
            firmware(&json!({ "schema": 1, "appliance": false, "error": null, "offered": offered }))
        };
        assert_eq!(shown(none.clone()), "appliance   no\noffers      none\n");
        let missing =
            "appliance   no\noffers      none\nnot taken   /x: there is no such program; name a program\n";
        assert_eq!(shown(with("lacks", lacks.clone())), missing);
        let update = |held: &str| json!({ "version": "1.5", "phase": "received", "received_bytes": 10, "length": 10, "held": held });
        let mut waits = with("update", update("program"));
        waits["why"] = "/x: there is no such program".into();
        waits["offers"] = json!([{ "version": "1.5", "compatible": "lab", "length": 10, "share_percent": 100, "held": "program" }]);
        let text = shown(waits.clone());
        assert!(text.contains("1.5, received, ") && text.contains("\nwhy         /x: there"), "{text}");
        waits["lacks"] = lacks;
        assert_eq!(shown(waits).matches("there is no such program").count(), 1);
        let mut later = with("update", update("later"));
        later["why"] = "a recording runs".into();
        assert!(shown(later).contains("\nwhy         a recording runs\n"));
        let unknown =
            firmware(&json!({ "schema": 1, "appliance": true, "error": "no daemon", "running": "a" }));
        assert_eq!(unknown, "appliance   yes\nrunning     a\noffers      unknown: no daemon\n");
    }

    #[test]
    fn a_parent_that_is_not_asked_is_seen() {
        let group = |ups: [bool; 2], enabled: bool| {
            let member = |(number, up): (usize, &bool)| json!({ "url": format!("http://shield-{number}"), "up": up, "requests": 1000, "failures": 3 });
            let members: Vec<Value> = ups.iter().enumerate().map(member).collect();
            parents(
                &json!({ "name": "shields", "enabled": enabled, "hedged": 4, "failed_over": 5, "members": members }),
            )
        };
        let counts = "; 2,000 requests, 6 failures, 5 went on to others, 4 asked twice";
        assert_eq!(group([true, true], true), format!("shields: 2 asked{counts}"));
        assert_eq!(
            group([true, false], true),
            format!("shields: 1 of 2 asked, http://shield-1 IS NOT ASKED{counts}")
        );
        assert_eq!(group([false, false], false), format!("shields: left out by enabled = false{counts}"));
    }

    fn list() -> Value {
        let object = |key: &str, length: u64, uses: u64, expires: Option<&str>| {
            json!({ "key": key, "length": length, "uses": uses, "expires": expires, "tier": "disk", "class": "medium",
                    "came_by": "carousel", "received_at": "2026-01-01T00:00:00Z" })
        };
        json!({ "objects": [
            object("h/b.m4s", 5_000_000, 1, Some("2026-01-01T03:00:00Z")),
            object("h/a.mpd", 700, 9, Some("2025-12-31T23:59:00Z")),
            object("h/c.m4s", 6_000_000, 2, None),
        ], "in_flight": [
            { "key": "h/d.m4s", "length": 1000, "received_bytes": 250, "from": "carousel" },
            { "key": "h/e.m4s", "length": null, "received_bytes": 70_000, "from": "carousel" },
        ] })
    }

    fn keys(sort: Sort, filter: Option<&str>, limit: usize) -> Vec<String> {
        let mut all = list();
        select(&mut all, &Listing { sort, filter: filter.map(str::to_owned), limit });
        array(&all, "objects").map(|it| text(it, "key").to_owned()).collect()
    }

    #[test]
    fn lists_are_sorted_filtered_and_cut() {
        assert_eq!(keys(Sort::Key, None, 0), ["h/a.mpd", "h/b.m4s", "h/c.m4s"]);
        assert_eq!(keys(Sort::Size, None, 2), ["h/c.m4s", "h/b.m4s"]);
        assert_eq!(keys(Sort::Uses, None, 1), ["h/a.mpd"]);
        assert_eq!(keys(Sort::Expires, None, 0), ["h/a.mpd", "h/b.m4s", "h/c.m4s"]);
        assert_eq!(keys(Sort::Key, Some("h/*.m4s"), 0), ["h/b.m4s", "h/c.m4s"]);
        assert_eq!(keys(Sort::Key, Some("b.m"), 0), ["h/b.m4s"]);
        assert_eq!(keys(Sort::Key, Some("none"), 0), Vec::<String>::new());
    }

    #[test]
    fn a_line_says_tier_and_expiry() {
        let table = objects(&list(), WallTime::from_xml("2026-01-01T00:00:00Z").unwrap());
        for part in [
            "5.0 MB  disk",
            "in 3 h",
            "60 s ago",
            "never",
            "in flight,  25 % from the carousel",
            "70.0 kB  in flight, so far from the carousel h/e.m4s",
        ] {
            assert!(table.contains(part), "{part}: {table}");
        }
    }

    #[test]
    fn a_certificate_says_how_long_it_lasts() {
        let line = |days: Value, error: Value| {
            certificate_line(
                &json!({ "listener": "http.tls", "file": "c.pem", "not_after": "2026-12-24T00:00:00Z", "days_left": days, "error": error }),
            )
        };
        assert_eq!(
            line(14.into(), Value::Null),
            "[http.tls] c.pem: 14 days left, until 2026-12-24T00:00:00Z"
        );
        assert_eq!(
            line(13.into(), Value::Null),
            "[http.tls] c.pem: ONLY 13 DAYS LEFT, until 2026-12-24T00:00:00Z"
        );
        assert_eq!(line((-1).into(), Value::Null), "[http.tls] c.pem: ENDED 2026-12-24T00:00:00Z");
        assert_eq!(line(Value::Null, Value::Null), "[http.tls] c.pem: until 2026-12-24T00:00:00Z");
        assert_eq!(line(Value::Null, "why".into()), "[http.tls] c.pem: CANNOT BE READ: why");
    }

    #[test]
    fn what_is_wrong_has_rows_of_its_own() {
        let pop = json!({ "receive": { "datagrams": 0, "groups": [] } });
        let quiet = status(&pop);
        for row in ["silent", "overload", "firmware", "draining"] {
            assert!(!quiet.contains(row), "{quiet}");
        }
        let with = |name: &str, member: Value| {
            let mut all = pop.clone();
            all[name] = member;
            status(&all).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let text = with("origin", json!({ "no_place": { "share": 1200 }, "open_circuits": ["http://o:1/"] }));
        assert!(
            text.contains("overload fetches refused: share 1,200; players sent to the CDN: none"),
            "{text}"
        );
        assert!(text.contains("origin http://o:1/ FAILS: it gets health checks alone"), "{text}");
        assert!(with("draining", json!(true)).starts_with("draining about to end"));
        assert!(!quiet.contains("purges"), "{quiet}");
        let purges = json!({ "remembered": 3, "forgotten": 0, "since_start": { "surrogate_key": 2 } });
        let text = with("store", json!({ "purges": purges }));
        assert!(
            text.contains("purges 3 of the last two hours remembered; since the start: surrogate key 2"),
            "{text}"
        );
        let text = with("store", json!({ "purges": { "remembered": 0, "forgotten": 9 } }));
        assert!(text.contains("remembered, 9 FORGOTTEN for want of room"), "{text}");
        let one = with("store", json!({ "objects": 1, "unverified": 1 }));
        assert!(one.contains("cache 1 object, ") && !one.contains("1 objects"), "{one}");
        let text = with("http", json!({ "sent_to_cdn": { "origin_fails": 7 } }));
        assert!(text.contains("fetches refused: none; players sent to the CDN: origin fails 7"), "{text}");
        let update = json!({ "version": "1.5", "phase": "received", "received_bytes": 10, "length": 10, "held": "window" });
        assert!(
            with("firmware", json!({ "update": update }))
                .contains("firmware 1.5, received, 10 B of 10 B, window")
        );
    }

    #[test]
    fn no_line_of_the_status_is_wider_than_a_terminal() {
        let many: serde_json::Map<String, Value> =
            (0..20).map(|at| (format!("some_reason_{at}"), json!(1_000_000 + at))).collect();
        let value = json!({
            "store": { "objects": 1_234_567, "path": "/var/cache/skycache", "evicted": many, "disk": "full",
                       "flash": { "life_days": 3000.0, "budget_bytes_per_day": 1 } },
            "receive": { "datagrams": 0, "groups": [{ "group": "239.1.2.3", "port": 5000, "why": "configured" }],
                "sessions": [{ "group": "239.1.2.3", "port": 1, "source": "10.0.0.1", "dropped": many }],
                "transport_streams": [] },
            "flights": { "failed": many }, "repair": { "outcomes": many }, "origin": { "failures": many },
            "http": { "responses": many }, "catalog": { "left_out": many },
            "live": [{ "service": "urn:a-long-name-of-a-service", "state": "live", "segment_age_ms": 1340, "latency_ms": -200,
                       "segments": 1_234_567, "deadline_misses": 3, "repaired": 4, "from_origin": 5 },
                     { "service": "x", "state": "live", "segment_age_ms": 1, "latency_ms": null, "dated": false },
                     { "service": "y", "state": "live", "segment_age_ms": 1, "latency_ms": null, "dated": true }],
        });
        let table = status(&value);
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= WIDTH, "{widest}\n{table}");
        // Lines are broken where they are too wide.
        let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "1,234,567 objects",
            "THE DISK IS FULL",
            "some reason 19 1,000,019",
            "silent nothing has arrived",
            "urn:a-long-name-of-a-service: live, segment age 1.3 s, latency -0.2 s;",
            "segments 1,234,567, deadline misses 3, repaired in time 4, from origin 5",
            "x: live, segment age 0.0 s, latency unknown (no date in the playlist);",
            "y: live, segment age 0.0 s, latency unknown (this box has no date);",
        ] {
            assert!(words.contains(part), "{part}: {table}");
        }
    }
}
