//! Definitions of the kernel's headers `linux/dvb/frontend.h` and `linux/dvb/dmx.h`. A test compares every size, offset and
//! number with those headers, where they and a C compiler are available.

use std::ffi::{c_int, c_uint, c_ulong, c_void};
use std::marker::PhantomData;

/// Commands of `FE_SET_PROPERTY` and `FE_GET_PROPERTY`, and their values.
pub(super) mod property {
    pub(in super::super) const TUNE: u32 = 1;
    pub(in super::super) const CLEAR: u32 = 2;
    pub(in super::super) const FREQUENCY: u32 = 3;
    pub(in super::super) const MODULATION: u32 = 4;
    pub(in super::super) const INVERSION: u32 = 6;
    pub(in super::super) const SYMBOL_RATE: u32 = 8;
    pub(in super::super) const INNER_FEC: u32 = 9;
    pub(in super::super) const PILOT: u32 = 12;
    pub(in super::super) const ROLLOFF: u32 = 13;
    pub(in super::super) const DELIVERY_SYSTEM: u32 = 17;
    pub(in super::super) const STREAM_ID: u32 = 42;
    pub(in super::super) const STAT_SIGNAL_STRENGTH: u32 = 62;
    pub(in super::super) const STAT_CNR: u32 = 63;

    pub(in super::super) const QPSK: u32 = 0;
    pub(in super::super) const PSK_8: u32 = 9;
    pub(in super::super) const APSK_16: u32 = 10;
    pub(in super::super) const APSK_32: u32 = 11;
    pub(in super::super) const FEC_AUTO: u32 = 9;
    pub(in super::super) const INVERSION_AUTO: u32 = 2;
    pub(in super::super) const PILOT_ON: u32 = 0;
    pub(in super::super) const PILOT_OFF: u32 = 1;
    pub(in super::super) const PILOT_AUTO: u32 = 2;
    pub(in super::super) const ROLLOFF_35: u32 = 0;
    pub(in super::super) const ROLLOFF_20: u32 = 1;
    pub(in super::super) const ROLLOFF_25: u32 = 2;
    pub(in super::super) const ROLLOFF_AUTO: u32 = 3;
    pub(in super::super) const SYS_DVBS: u32 = 5;
    pub(in super::super) const SYS_DVBS2: u32 = 6;
    pub(in super::super) const NO_STREAM_ID_FILTER: u32 = u32::MAX;
}

/// `FE_HAS_LOCK` of `fe_status`.
pub(super) const HAS_LOCK: u32 = 0x10;
/// `FE_SCALE_DECIBEL` and `FE_SCALE_RELATIVE` of `fecap_scale_params`.
pub(super) const SCALE_DECIBEL: u8 = 1;
pub(super) const SCALE_RELATIVE: u8 = 2;
/// `SEC_VOLTAGE_13`, `SEC_VOLTAGE_18`.
pub(super) const VOLTAGE_13: c_ulong = 0;
pub(super) const VOLTAGE_18: c_ulong = 1;
/// `SEC_TONE_ON`, `SEC_TONE_OFF`.
pub(super) const TONE_ON: c_ulong = 0;
pub(super) const TONE_OFF: c_ulong = 1;
/// `SEC_MINI_A`, `SEC_MINI_B`.
pub(super) const MINI_A: c_ulong = 0;
pub(super) const MINI_B: c_ulong = 1;
/// `DMX_IN_FRONTEND`, `DMX_OUT_TSDEMUX_TAP`, `DMX_PES_OTHER`, `DMX_IMMEDIATE_START`.
pub(super) const IN_FRONTEND: c_uint = 0;
pub(super) const OUT_TSDEMUX_TAP: c_uint = 3;
pub(super) const PES_OTHER: c_uint = 20;
pub(super) const IMMEDIATE_START: u32 = 4;

/// `struct dvb_diseqc_master_cmd`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct DiseqcMasterCmd {
    pub(super) msg: [u8; 6],
    pub(super) msg_len: u8,
}

/// `struct dtv_stats`: one value with its scale, packed.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct DtvStats {
    pub(super) scale: u8,
    /// `svalue` or `uvalue`.
    pub(super) value: i64,
}

/// `struct dtv_fe_stats`.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct DtvFeStats {
    pub(super) len: u8,
    pub(super) stat: [DtvStats; 4],
}

/// The `buffer` of `struct dtv_property`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DtvBuffer {
    pub(super) data: [u8; 32],
    pub(super) len: u32,
    pub(super) reserved1: [u32; 3],
    pub(super) reserved2: *mut c_void,
}

/// The union `u` of `struct dtv_property`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union DtvValue {
    pub(super) data: u32,
    pub(super) st: DtvFeStats,
    pub(super) buffer: DtvBuffer,
}

/// `struct dtv_property`, packed.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(super) struct DtvProperty {
    pub(super) cmd: u32,
    pub(super) reserved: [u32; 3],
    pub(super) u: DtvValue,
    pub(super) result: c_int,
}

/// `struct dtv_properties`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DtvProperties {
    pub(super) num: u32,
    pub(super) props: *mut DtvProperty,
}

/// `struct dmx_pes_filter_params`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct PesFilterParams {
    pub(super) pid: u16,
    pub(super) input: c_uint,
    pub(super) output: c_uint,
    pub(super) pes_type: c_uint,
    pub(super) flags: u32,
}

/// An ioctl number (`asm-generic/ioctl.h`; MIPS and PowerPC have other bits for the direction).
const fn number(direction: u32, nr: u32, size: usize) -> c_ulong {
    const OTHER: bool = cfg!(any(
        target_arch = "mips",
        target_arch = "mips64",
        target_arch = "powerpc",
        target_arch = "powerpc64"
    ));
    // None 0 or 1, write 1 or 4, read 2.
    let (bits, shift) = match (OTHER, direction) {
        (false, direction) => (direction, 30),
        (true, 0) => (1, 29),
        (true, 1) => (4, 29),
        (true, _) => (2, 29),
    };
    (bits << shift | (size as u32) << 16 | (b'o' as u32) << 8 | nr) as c_ulong
}

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// Number of an ioctl whose argument is an integer.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberRequest(c_ulong);

impl NumberRequest {
    pub(super) const fn number(self) -> c_ulong {
        self.0
    }

    const fn new(nr: u32) -> Self {
        Self(number(NONE, nr, 0))
    }
}

/// Number of an ioctl whose argument is a pointer to a `T`. Only this module makes one, so that number and type agree.
pub(super) struct Request<T>(c_ulong, PhantomData<fn(&mut T)>);

impl<T> Clone for Request<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Request<T> {}

/// Arguments without pointers: the kernel writes only to the argument itself.
pub(super) trait Plain: Copy {}

impl Plain for DiseqcMasterCmd {}
impl Plain for PesFilterParams {}
impl Plain for c_uint {}
impl Plain for u16 {}

impl<T> Request<T> {
    pub(super) const fn number(self) -> c_ulong {
        self.0
    }

    const fn new(direction: u32, nr: u32) -> Self {
        Self(number(direction, nr, size_of::<T>()), PhantomData)
    }
}

pub(super) const FE_DISEQC_SEND_MASTER_CMD: Request<DiseqcMasterCmd> = Request::new(WRITE, 63);
pub(super) const FE_DISEQC_SEND_BURST: NumberRequest = NumberRequest::new(65);
pub(super) const FE_SET_TONE: NumberRequest = NumberRequest::new(66);
pub(super) const FE_SET_VOLTAGE: NumberRequest = NumberRequest::new(67);
pub(super) const FE_READ_STATUS: Request<c_uint> = Request::new(READ, 69);
pub(super) const FE_SET_PROPERTY: Request<DtvProperties> = Request::new(WRITE, 82);
pub(super) const FE_GET_PROPERTY: Request<DtvProperties> = Request::new(READ, 83);
pub(super) const DMX_STOP: NumberRequest = NumberRequest::new(42);
pub(super) const DMX_SET_PES_FILTER: Request<PesFilterParams> = Request::new(WRITE, 44);
pub(super) const DMX_SET_BUFFER_SIZE: NumberRequest = NumberRequest::new(45);
pub(super) const DMX_ADD_PID: Request<u16> = Request::new(WRITE, 51);
pub(super) const DMX_REMOVE_PID: Request<u16> = Request::new(WRITE, 52);
