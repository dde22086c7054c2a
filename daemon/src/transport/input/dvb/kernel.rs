//! Ioctls of the DVB device. Each passes an integer, or a pointer to a structure of [`super::abi`] that lives across the
//! call, to a descriptor that this module has opened.
#![allow(unsafe_code)] // ioctl and poll; number and structure of a request belong together by its type

use std::ffi::{c_int, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use carousel::ts::Pid;

use super::super::{InputError, Signal};
use super::Device;
use super::abi::{self, property};

/// Requested buffer of the demux: 180 ms at 90 Mbit/s.
const BUFFER_BYTES: c_ulong = 2 << 20;
/// Fix of an adapter that is not there.
const NO_ADAPTER_FIX: &str = "no such adapter: `ls /dev/dvb` shows those that have a driver; under systemd a drop-in must let the service see them (configs/tuner.conf)";

/// Frontend and demux of an adapter.
#[derive(Debug)]
pub(in super::super) struct KernelDevice {
    name: String,
    frontend: File,
    demux: File,
    pids: Vec<Pid>,
}

impl KernelDevice {
    pub(super) fn open(adapter: u32, frontend: u32) -> Result<Self, InputError> {
        let folder = format!("/dev/dvb/adapter{adapter}");
        let open = |node: String| {
            let path = format!("{folder}/{node}");
            let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path);
            file.map_err(|err| {
                let fix = match err.kind() {
                    io::ErrorKind::NotFound => NO_ADAPTER_FIX,
                    io::ErrorKind::PermissionDenied => {
                        "this user is not in the group that owns it, usually `video` (configs/tuner.conf)"
                    }
                    _ if err.raw_os_error() == Some(libc::EBUSY) => {
                        "another program has it: `fuser -v` names it"
                    }
                    _ => "`dmesg` may say more",
                };
                InputError::Local { what: path, err, fix: Some(fix) }
            })
        };
        let demux = open(format!("demux{frontend}"))?;
        let frontend = open(format!("frontend{frontend}"))?;
        let device = Self { name: folder, frontend, demux, pids: Vec::new() };
        device.with_number(
            device.demux.as_raw_fd(),
            abi::DMX_SET_BUFFER_SIZE,
            BUFFER_BYTES,
            "DMX_SET_BUFFER_SIZE",
        )?;
        Ok(device)
    }

    fn failed(&self, command: &'static str) -> InputError {
        InputError::Driver { device: self.name.clone(), command, err: io::Error::last_os_error() }
    }

    fn with_number(
        &self,
        fd: RawFd,
        request: abi::NumberRequest,
        value: c_ulong,
        what: &'static str,
    ) -> Result<(), InputError> {
        // SAFETY: these requests take an integer and touch no memory of ours, for any `fd`.
        let result = unsafe { libc::ioctl(fd, request.number() as libc::Ioctl, value) };
        if result < 0 { Err(self.failed(what)) } else { Ok(()) }
    }

    fn with<T: abi::Plain>(
        &self,
        fd: RawFd,
        request: abi::Request<T>,
        value: &mut T,
        what: &'static str,
    ) -> Result<(), InputError> {
        // SAFETY: a `Plain` structure has no pointers.
        unsafe { self.with_pointers(fd, request, value, what) }
    }

    /// # Safety
    /// Memory that `value` points to is exclusively the caller's and as long as `value` says.
    unsafe fn with_pointers<T>(
        &self,
        fd: RawFd,
        request: abi::Request<T>,
        value: &mut T,
        what: &'static str,
    ) -> Result<(), InputError> {
        let result = loop {
            // SAFETY: by its type `request` is for the structure that `value` is, which is exclusively ours and lives across
            // the call; what it points to does too, by the contract of this function.
            let result =
                unsafe { libc::ioctl(fd, request.number() as libc::Ioctl, std::ptr::from_mut(value)) };
            if result >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break result;
            }
        };
        if result < 0 { Err(self.failed(what)) } else { Ok(()) }
    }

    fn properties(
        &self,
        request: abi::Request<abi::DtvProperties>,
        properties: &mut [abi::DtvProperty],
        what: &'static str,
    ) -> Result<(), InputError> {
        let mut all = abi::DtvProperties { num: properties.len() as u32, props: properties.as_mut_ptr() };
        // SAFETY: it points to `properties`, which are borrowed exclusively for the call, and counts them.
        unsafe { self.with_pointers(self.frontend.as_raw_fd(), request, &mut all, what) }
    }

    /// A statistic with its scale, if the driver has it.
    fn statistic(&self, cmd: u32) -> Option<(u8, f64)> {
        let mut one = [empty_property(cmd)];
        self.properties(abi::FE_GET_PROPERTY, &mut one, "FE_GET_PROPERTY").ok()?;
        // SAFETY: the kernel has filled in `st` for statistics; all its fields are plain numbers, valid in any bits.
        let stats = unsafe { one[0].u.st };
        let first = stats.stat[0];
        (stats.len > 0).then_some((first.scale, first.value as f64))
    }
}

const fn empty_property(cmd: u32) -> abi::DtvProperty {
    let buffer = abi::DtvBuffer { data: [0; 32], len: 0, reserved1: [0; 3], reserved2: std::ptr::null_mut() };
    abi::DtvProperty { cmd, reserved: [0; 3], u: abi::DtvValue { buffer }, result: 0 }
}

impl Device for KernelDevice {
    fn set_voltage(&mut self, is_18_v: bool) -> Result<(), InputError> {
        let voltage = if is_18_v { abi::VOLTAGE_18 } else { abi::VOLTAGE_13 };
        self.with_number(self.frontend.as_raw_fd(), abi::FE_SET_VOLTAGE, voltage, "FE_SET_VOLTAGE")
    }

    fn set_tone(&mut self, on: bool) -> Result<(), InputError> {
        let tone = if on { abi::TONE_ON } else { abi::TONE_OFF };
        self.with_number(self.frontend.as_raw_fd(), abi::FE_SET_TONE, tone, "FE_SET_TONE")
    }

    fn send_diseqc(&mut self, message: &[u8]) -> Result<(), InputError> {
        let mut command = abi::DiseqcMasterCmd { msg: [0; 6], msg_len: message.len().min(6) as u8 };
        for (to, from) in command.msg.iter_mut().zip(message) {
            *to = *from;
        }
        self.with(
            self.frontend.as_raw_fd(),
            abi::FE_DISEQC_SEND_MASTER_CMD,
            &mut command,
            "FE_DISEQC_SEND_MASTER_CMD",
        )
    }

    fn send_burst(&mut self, is_b: bool) -> Result<(), InputError> {
        let burst = if is_b { abi::MINI_B } else { abi::MINI_A };
        self.with_number(self.frontend.as_raw_fd(), abi::FE_DISEQC_SEND_BURST, burst, "FE_DISEQC_SEND_BURST")
    }

    fn set_properties(&mut self, properties: &[(u32, u32)]) -> Result<(), InputError> {
        let mut all: Vec<abi::DtvProperty> = properties
            .iter()
            .map(|&(cmd, data)| {
                let mut property = empty_property(cmd);
                property.u.data = data;
                property
            })
            .collect();
        self.properties(abi::FE_SET_PROPERTY, &mut all, "FE_SET_PROPERTY")
    }

    fn signal(&mut self) -> Result<Signal, InputError> {
        let mut status: c_uint = 0;
        self.with(self.frontend.as_raw_fd(), abi::FE_READ_STATUS, &mut status, "FE_READ_STATUS")?;
        let mut signal = Signal { locked: status & abi::HAS_LOCK != 0, ..Signal::default() };
        // Decibels come in thousandths, relative values as parts of 65,535.
        match self.statistic(property::STAT_SIGNAL_STRENGTH) {
            Some((abi::SCALE_DECIBEL, value)) => signal.strength_dbm = Some(value / 1000.0),
            Some((abi::SCALE_RELATIVE, value)) => signal.strength_percent = Some(value / 655.35),
            _ => {}
        }
        match self.statistic(property::STAT_CNR) {
            Some((abi::SCALE_DECIBEL, value)) => signal.snr_db = Some(value / 1000.0),
            Some((abi::SCALE_RELATIVE, value)) => signal.quality_percent = Some(value / 655.35),
            _ => {}
        }
        Ok(signal)
    }

    fn set_pids(&mut self, pids: &[Pid]) -> Result<(), InputError> {
        let fd = self.demux.as_raw_fd();
        let Some(first) = pids.first() else { return Ok(()) };
        if self.pids.is_empty() {
            let mut filter = abi::PesFilterParams {
                pid: first.get(),
                input: abi::IN_FRONTEND,
                output: abi::OUT_TSDEMUX_TAP,
                pes_type: abi::PES_OTHER,
                flags: abi::IMMEDIATE_START,
            };
            self.with(fd, abi::DMX_SET_PES_FILTER, &mut filter, "DMX_SET_PES_FILTER")?;
            self.pids.push(*first);
        }
        for pid in pids.iter().filter(|pid| !self.pids.contains(pid)).copied().collect::<Vec<_>>() {
            self.with(fd, abi::DMX_ADD_PID, &mut pid.get(), "DMX_ADD_PID")?;
            self.pids.push(pid);
        }
        for pid in self.pids.iter().filter(|pid| !pids.contains(pid)).copied().collect::<Vec<_>>() {
            self.with(fd, abi::DMX_REMOVE_PID, &mut pid.get(), "DMX_REMOVE_PID")?;
            self.pids.retain(|it| *it != pid);
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, InputError> {
        let mut poll = libc::pollfd { fd: self.demux.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one structure of ours, whose count is given as one; the descriptor is open.
        let ready = unsafe { libc::poll(&raw mut poll, 1, patience.as_millis() as c_int) };
        if ready <= 0 {
            return Ok(0);
        }
        match self.demux.read(buffer) {
            Ok(length) => Ok(length),
            // A buffer overflow: the loss shows as gaps.
            Err(err) if err.raw_os_error() == Some(libc::EOVERFLOW) => Ok(0),
            Err(err) if matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
            Err(err) => Err(InputError::local(format!("{}: reading", self.name), err)),
        }
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl Drop for KernelDevice {
    fn drop(&mut self) {
        let _ = self.with_number(self.demux.as_raw_fd(), abi::DMX_STOP, 0, "DMX_STOP");
    }
}
