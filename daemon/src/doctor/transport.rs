//! Checks of transport streams: reception and content.

use std::time::Duration;

use carousel::multiplex::wrapping::Unit;
use carousel::multiplex::{Delivery, Multiplex};

use super::{Finding, Severity};
use crate::clock;
use crate::config::Config;
use crate::transport::input::{Input, InputError};
use crate::transport::options::From;
use crate::transport::{Signal, TransportStream, input};

/// The SDT comes every two seconds, a tuner needs one to lock: shorter looks say too little.
const LEAST_LOOK: Duration = Duration::from_secs(3);

pub(super) fn examine(config: &Config, is_running: bool, listen: Duration) -> Vec<Finding> {
    config.transport_streams.iter().flat_map(|stream| probe(stream, config, is_running, listen)).collect()
}

fn probe(stream: &TransportStream, config: &Config, is_running: bool, listen: Duration) -> Vec<Finding> {
    let about = format!("stream {}", stream.from);
    let is_tuner = matches!(stream.from, From::Dvb { .. } | From::SatIp { .. });
    if is_tuner && is_running {
        let what = "the running daemon has the tuner; `skycached status` shows its signal";
        return vec![Finding::fine(about, what)];
    }
    let opened = input::open(stream, &config.receive.interface, config.receive.socket_buffer_bytes);
    let received = opened.and_then(|mut input| {
        let content = receive(&mut *input, listen.max(LEAST_LOOK))?;
        Ok((input.signal(), content))
    });
    match received {
        Ok((signal, content)) => {
            let mut found: Vec<Finding> = signal.iter().map(|it| lock(&about, it)).collect();
            found.extend(content.findings(&about, stream));
            found
        }
        Err(err) => vec![Finding::of_message(Severity::Error, about, &err.to_string())],
    }
}

/// Content of a transport stream.
#[derive(Default)]
struct Content {
    multiplex: Multiplex,
    packets: u64,
    frames: u64,
    datagrams: u64,
    sections: u64,
}

/// Receives for `period`, requesting further PIDs from the input as they are found to be needed.
fn receive(input: &mut dyn Input, period: Duration) -> Result<Content, InputError> {
    let mut content = Content::default();
    let Content { multiplex, packets, frames, datagrams, sections } = &mut content;
    let begin = clock::now();
    let mut pids = Vec::new();
    while clock::now().since(begin) < period {
        let read = input.read(&mut |unit| match unit {
            Unit::Frame(_) => *frames += 1,
            Unit::Packet(packet) => {
                *packets += 1;
                multiplex.push(packet, |delivery| match delivery {
                    Delivery::Carousel(..) => *sections += 1,
                    Delivery::Ip(..) => *datagrams += 1,
                    Delivery::Gone(_) => {}
                });
            }
        })?;
        if matches!(read, input::Read::End) {
            break;
        }
        let mut wanted: Vec<_> = multiplex.demux().open_pids().collect();
        wanted.sort();
        if wanted != pids {
            input.want(&wanted)?;
            pids = wanted;
        }
    }
    Ok(content)
}

fn lock(about: &str, signal: &Signal) -> Finding {
    if signal.locked {
        return Finding::fine(about, "the demodulator has lock");
    }
    let fix = "look at cable and dish, then at [transport_stream.carrier]: frequency, polarization, symbol rate, LNB";
    Finding::new(Severity::Error, about, "the demodulator has no lock", fix)
}

impl Content {
    fn findings(&self, about: &str, stream: &TransportStream) -> Vec<Finding> {
        let warning = |what: String, fix| Finding::new(Severity::Warning, about, what, fix);
        let Self { multiplex, packets, frames, datagrams, sections } = self;
        if packets + frames == 0 {
            let fix = match stream.from {
                From::Udp(_) | From::Frames(_) => {
                    "see what is said of the interface; `tcpdump` shows what comes"
                }
                _ => "`skycached status` shows the signal while the daemon runs",
            };
            return vec![warning("nothing comes".to_owned(), fix)];
        }
        let mut found = Vec::new();
        let gaps: u64 = multiplex.demux().counts().map(|(_, it)| u64::from(it.discontinuities)).sum();
        if gaps > 0 {
            let fix = "look at the signal, or at losses on the network between here and the tuner";
            found.push(warning(format!("{gaps} gaps of continuity counters"), fix));
        }
        let what = format!(
            "{packets} packets, {frames} baseband frames, {} programmes, {sections} sections of carousels, {datagrams} datagrams",
            multiplex.tables().programs.len()
        );
        found.push(match *frames == 0 && sections + datagrams == 0 {
            false => Finding::fine(about, what),
            true => {
                warning(what, "neither a DSM-CC carousel nor IP is in it: is it the right transport stream?")
            }
        });
        found
    }
}
