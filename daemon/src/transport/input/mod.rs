//! Inputs of transport streams: sockets, SAT>IP servers, tuners, recordings. Each opens its resources, waits a short time in
//! a read, and closes when dropped.

mod datagrams;
mod dvb;
mod error;
mod file;
pub mod probe;
mod rtsp;
mod satip;

use carousel::multiplex::wrapping::{Unit, Unwrap};
use carousel::ts::Pid;

use super::options::{From, TransportStream};
pub use error::InputError;

/// Time for which a read waits for data.
const PATIENCE: std::time::Duration = std::time::Duration::from_millis(200);

/// Result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Data was read, or none arrived in time.
    More,
    /// The input has ended.
    End,
}

/// Signal as a tuner reports it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Signal {
    /// Whether the demodulator has lock.
    pub locked: bool,
    /// Strength in dBm, if the driver reports it so.
    pub strength_dbm: Option<f64>,
    /// Relative strength, if the driver reports it so.
    pub strength_percent: Option<f64>,
    /// Carrier to noise ratio.
    pub snr_db: Option<f64>,
    /// Quality as reported by a SAT>IP server.
    pub quality_percent: Option<f64>,
}

/// A source of packets: the common interface of tuners, sockets and files.
pub trait Input {
    /// Waits a short time and passes on the received units.
    ///
    /// # Errors
    /// Why the input has failed.
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, InputError>;

    /// Sets the needed PIDs.
    ///
    /// # Errors
    /// If the tuner refuses them.
    fn want(&mut self, pids: &[Pid]) -> Result<(), InputError> {
        let _ = pids;
        Ok(())
    }

    /// Signal reported by the tuner; `None` for inputs without one.
    fn signal(&mut self) -> Option<Signal> {
        None
    }

    /// Tunes again after a long loss of lock.
    ///
    /// # Errors
    /// If the tuner refuses.
    fn retune(&mut self) -> Result<(), InputError> {
        Ok(())
    }

    /// Statistics of the datagrams, for datagram inputs.
    fn unwrap(&self) -> Option<&Unwrap> {
        None
    }
}

/// Opens the input of a stream.
///
/// # Errors
/// The missing device, server or file.
pub fn open(
    stream: &TransportStream,
    interface: &str,
    socket_buffer_bytes: usize,
) -> Result<Box<dyn Input>, InputError> {
    let missing = || InputError::Configuration(format!("{}: no carrier is configured", stream.from));
    let carrier = || stream.carrier.clone().ok_or_else(missing);
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
