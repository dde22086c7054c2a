//! Inputs of transport streams: sockets, SAT>IP servers, tuners, recordings. Each opens what it needs, waits a short time in
//! a read, and closes when dropped.

mod datagrams;
mod dvb;
mod file;
pub mod probe;
mod rtsp;
mod satip;

use carousel::multiplex::wrapping::{Unit, Unwrap};
use carousel::ts::Pid;

use super::options::{From, TransportStream};

/// Time for which a read waits for something to come.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);

/// Result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Something, or nothing within a little while.
    More,
    /// There is nothing more.
    End,
}

/// Signal as a tuner reports it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Signal {
    /// Whether the demodulator has lock.
    pub locked: bool,
    /// Strength, where the driver knows it in dBm.
    pub strength_dbm: Option<f64>,
    /// Strength, where it knows it as a part of something.
    pub strength_percent: Option<f64>,
    /// Carrier to noise ratio.
    pub snr_db: Option<f64>,
    /// Quality as the server counts it.
    pub quality_percent: Option<f64>,
}

/// A source of packets: the narrow side of tuners, sockets and files.
pub trait Input {
    /// Waits a little and hands on what has come.
    ///
    /// # Errors
    /// Why nothing more will come, and the fix.
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, String>;

    /// Only these PIDs are needed.
    ///
    /// # Errors
    /// If the tuner refuses them.
    fn want(&mut self, pids: &[Pid]) -> Result<(), String> {
        let _ = pids;
        Ok(())
    }

    /// Signal as the tuner reports it; `None` where there is none.
    fn signal(&mut self) -> Option<Signal> {
        None
    }

    /// Tunes again, after lock was away for a while.
    ///
    /// # Errors
    /// If the tuner refuses.
    fn retune(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Form of the datagrams, where packets come in datagrams.
    fn unwrap(&self) -> Option<&Unwrap> {
        None
    }
}

/// Opens the input of a stream.
///
/// # Errors
/// One line that says what is not available, and the fix.
pub fn open(
    stream: &TransportStream,
    interface: &str,
    socket_buffer_bytes: usize,
) -> Result<Box<dyn Input>, String> {
    let carrier =
        || stream.carrier.clone().ok_or_else(|| format!("{}: no carrier is configured", stream.from));
    Ok(match &stream.from {
        From::Udp(address) => {
            Box::new(datagrams::Datagrams::open(*address, interface, socket_buffer_bytes, false)?)
        }
        From::Frames(address) => {
            Box::new(datagrams::Datagrams::open(*address, interface, socket_buffer_bytes, true)?)
        }
        From::File(path) => Box::new(file::Recording::open(path)?),
        From::SatIp { server } => Box::new(satip::SatIp::open(server, &carrier()?)?),
        From::Dvb { adapter, frontend } => Box::new(dvb::open(*adapter, *frontend, carrier()?)?),
    })
}
