//! A Linux DVB adapter: LNB and switch, frontend, demux (Linux DVB API version 5).
//!
//! [`tune`] translates a carrier to commands; [`Device`] is the minimal interface to the kernel, so that the order of
//! commands is tested without an adapter. [`kernel`] is the only place with ioctls.

mod abi;
mod kernel;

use std::time::Duration;

use carousel::multiplex::wrapping::Unit;
use carousel::ts::stream::Packets;
use carousel::ts::{PACKET_BYTES, Pid};

use super::{Input, InputError, PATIENCE, Read, Signal};
use crate::transport::options::{CODE_RATES, Carrier, Modulation, Polarization, System};
use abi::property;
use kernel::KernelDevice;

/// Pause between commands to a switch: the bus needs 15 ms of silence (DiSEqC bus specification).
const DISEQC_PAUSE: Duration = Duration::from_millis(20);
/// Packets read at once.
const READ_PACKETS: usize = 1024;

/// Commands of a tuner, one for each ioctl.
pub(super) trait Device {
    /// FE_SET_VOLTAGE: 18 V rather than 13 V.
    fn set_voltage(&mut self, is_18_v: bool) -> Result<(), InputError>;
    /// FE_SET_TONE.
    fn set_tone(&mut self, on: bool) -> Result<(), InputError>;
    /// FE_DISEQC_SEND_MASTER_CMD.
    fn send_diseqc(&mut self, message: &[u8]) -> Result<(), InputError>;
    /// FE_DISEQC_SEND_BURST: B rather than A.
    fn send_burst(&mut self, is_b: bool) -> Result<(), InputError>;
    /// FE_SET_PROPERTY.
    fn set_properties(&mut self, properties: &[(u32, u32)]) -> Result<(), InputError>;
    /// FE_READ_STATUS and FE_GET_PROPERTY.
    fn signal(&mut self) -> Result<Signal, InputError>;
    /// DMX_SET_PES_FILTER, DMX_ADD_PID, DMX_REMOVE_PID: exactly these.
    fn set_pids(&mut self, pids: &[Pid]) -> Result<(), InputError>;
    /// Reads packets; 0 bytes if none come within `patience`.
    fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, InputError>;
    /// Waits.
    fn pause(&mut self, time: Duration);
}

/// Tunes a device to a carrier.
pub(super) fn tune(device: &mut dyn Device, carrier: &Carrier) -> Result<(), InputError> {
    let is_18_v = matches!(carrier.polarization, Polarization::Horizontal | Polarization::Left);
    let is_high = carrier.is_high_band();
    device.set_tone(false)?;
    device.set_voltage(is_18_v)?;
    device.pause(DISEQC_PAUSE);
    if let Some(position) = carrier.satellite.checked_sub(1) {
        // Write N0 of a committed switch: option, position, polarization, band (DiSEqC 1.0).
        let port = 0xf0 | position << 2 | u8::from(is_18_v) << 1 | u8::from(is_high);
        device.send_diseqc(&[0xe0, 0x10, 0x38, port])?;
        device.pause(DISEQC_PAUSE);
        device.send_burst(position % 2 != 0)?;
        device.pause(DISEQC_PAUSE);
    }
    device.set_tone(is_high)?;
    let intermediate_khz = carrier.intermediate_khz().ok_or_else(|| {
        InputError::Configuration("the frequency is outside the range of this LNB".to_owned())
    })?;
    let is_s2 = carrier.system != System::DvbS;
    let modulation = match carrier.modulation {
        None | Some(Modulation::Qpsk) => property::QPSK,
        Some(Modulation::Psk8) => property::PSK_8,
        Some(Modulation::Apsk16) => property::APSK_16,
        Some(Modulation::Apsk32) => property::APSK_32,
    };
    let code_rate = carrier.code_rate.as_ref();
    let code_rate = code_rate.and_then(|rate| CODE_RATES.iter().find(|(name, _)| name == rate));
    let roll_off = match carrier.roll_off.as_deref() {
        Some("0.35") => property::ROLLOFF_35,
        Some("0.20") => property::ROLLOFF_20,
        Some("0.25") => property::ROLLOFF_25,
        _ => property::ROLLOFF_AUTO,
    };
    let pilots = match carrier.pilots {
        Some(true) => property::PILOT_ON,
        Some(false) => property::PILOT_OFF,
        None => property::PILOT_AUTO,
    };
    let mut properties = vec![
        (property::CLEAR, 0),
        (property::DELIVERY_SYSTEM, if is_s2 { property::SYS_DVBS2 } else { property::SYS_DVBS }),
        (property::FREQUENCY, intermediate_khz),
        (property::SYMBOL_RATE, carrier.symbol_rate_ksps * 1000),
        (property::INNER_FEC, code_rate.map_or(property::FEC_AUTO, |(_, number)| *number)),
        (property::INVERSION, property::INVERSION_AUTO),
    ];
    if is_s2 {
        // Demodulators detect the modulation from the PL header; older drivers require QPSK or 8PSK.
        properties.push((property::MODULATION, modulation));
        properties.push((property::ROLLOFF, roll_off));
        properties.push((property::PILOT, pilots));
        properties
            .push((property::STREAM_ID, carrier.stream_id.map_or(property::NO_STREAM_ID_FILTER, u32::from)));
    }
    properties.push((property::TUNE, 0));
    device.set_properties(&properties)
}

/// A tuned adapter.
pub(super) struct Adapter<D> {
    device: D,
    carrier: Carrier,
    buffer: Vec<u8>,
}

/// Opens an adapter and tunes it.
pub(super) fn open(
    adapter: u32,
    frontend: u32,
    carrier: Carrier,
) -> Result<Adapter<KernelDevice>, InputError> {
    let mut device = KernelDevice::open(adapter, frontend)?;
    tune(&mut device, &carrier)?;
    device.set_pids(&[Pid::PAT, Pid::NIT, Pid::SDT, Pid::TDT])?;
    Ok(Adapter { device, carrier, buffer: vec![0; READ_PACKETS * PACKET_BYTES] })
}

impl<D: Device> Input for Adapter<D> {
    fn read(&mut self, each: &mut dyn FnMut(Unit<'_>)) -> Result<Read, InputError> {
        let length = self.device.read(&mut self.buffer, PATIENCE)?;
        // After an overflow the stream may continue inside a packet.
        for packet in Packets::new(&self.buffer[..length]).into_iter().flatten() {
            each(Unit::Packet(packet));
        }
        Ok(Read::More)
    }

    fn want(&mut self, pids: &[Pid]) -> Result<(), InputError> {
        self.device.set_pids(pids)
    }

    fn signal(&mut self) -> Option<Signal> {
        self.device.signal().ok()
    }

    fn retune(&mut self) -> Result<(), InputError> {
        tracing::info!(frequency_khz = self.carrier.frequency_khz, "tuning again");
        tune(&mut self.device, &self.carrier)
    }
}

#[cfg(test)]
mod tests;
