//! Transport streams: whether they can be received, and their content.

use std::time::Duration;

use carousel::multiplex::wrapping::Unit;
use carousel::multiplex::{Delivery, Multiplex};

use super::{Finding, Severity};
use crate::clock;
use crate::config::Config;
use crate::transport::config::From;
use crate::transport::{TransportStream, input};

/// The SDT comes every two seconds, a tuner needs one to lock: shorter looks say too little.
const LEAST_LOOK: Duration = Duration::from_secs(3);

pub(super) fn examine(config: &Config, is_running: bool, listen: Duration) -> Vec<Finding> {
    config.transport_streams.iter().flat_map(|stream| look(stream, config, is_running, listen)).collect()
}

fn look(stream: &TransportStream, config: &Config, is_running: bool, listen: Duration) -> Vec<Finding> {
    let about = format!("stream {}", stream.from);
    let is_tuner = matches!(stream.from, From::Dvb { .. } | From::SatIp { .. });
    if is_tuner && is_running {
        let what = "the running daemon has the tuner; `skycached status` tells its signal";
        return vec![Finding::fine(about, what)];
    }
    let opened = input::open(stream, &config.receive.interface, config.receive.socket_buffer_bytes);
    let mut input = match opened {
        Ok(input) => input,
        Err(why) => return vec![Finding::new(Severity::Error, about, why, "")],
    };
    let (mut multiplex, mut packets, mut frames) = (Multiplex::default(), 0_u64, 0_u64);
    let (mut datagrams, mut sections) = (0_u64, 0_u64);
    let begin = clock::now();
    let mut pids = Vec::new();
    while clock::now().since(begin) < listen.max(LEAST_LOOK) {
        let read = input.read(&mut |unit| match unit {
            Unit::Frame(_) => frames += 1,
            Unit::Packet(packet) => {
                packets += 1;
                multiplex.push(packet, |delivery| match delivery {
                    Delivery::Carousel(..) => sections += 1,
                    Delivery::Ip(..) => datagrams += 1,
                    Delivery::Gone(_) => {}
                });
            }
        });
        match read {
            Ok(input::Read::More) => {}
            Ok(input::Read::End) => break,
            Err(why) => return vec![Finding::new(Severity::Error, about, why, "")],
        }
        let mut wanted: Vec<_> = multiplex.demux().open_pids().collect();
        wanted.sort();
        if wanted != pids {
            if let Err(why) = input.want(&wanted) {
                return vec![Finding::new(Severity::Error, about, why, "")];
            }
            pids = wanted;
        }
    }
    let mut found = Vec::new();
    if let Some(signal) = input.signal() {
        found.push(match signal.locked {
            true => Finding::fine(about.clone(), "the demodulator has lock"),
            false => Finding::new(
                Severity::Error,
                about.clone(),
                "the demodulator has no lock",
                "look at cable and dish, then at [transport_stream.carrier]: frequency, polarization, symbol rate, LNB",
            ),
        });
    }
    if packets + frames == 0 {
        let fix = match stream.from {
            From::Udp(_) | From::Frames(_) => "see what is said of the interface; `tcpdump` shows what comes",
            _ => "`skycached status` tells the signal while the daemon runs",
        };
        found.push(Finding::new(Severity::Warning, about, "nothing comes", fix));
        return found;
    }
    let gaps: u64 = multiplex.demux().counts().map(|(_, it)| u64::from(it.discontinuities)).sum();
    if gaps > 0 {
        let fix = "look at the signal, or at losses on the network between here and the tuner";
        found.push(Finding::new(
            Severity::Warning,
            about.clone(),
            format!("{gaps} gaps of continuity counters"),
            fix,
        ));
    }
    let what = format!(
        "{packets} packets, {frames} baseband frames, {} programmes, {sections} sections of carousels, {datagrams} datagrams",
        multiplex.tables().programs.len()
    );
    found.push(match frames == 0 && sections + datagrams == 0 {
        false => Finding::fine(about, what),
        true => Finding::new(
            Severity::Warning,
            about,
            what,
            "neither a DSM-CC carousel nor IP is in it: is it the right transport stream?",
        ),
    });
    found
}
