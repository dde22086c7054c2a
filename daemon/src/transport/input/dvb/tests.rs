use super::*;
use std::mem::{offset_of, size_of};
use std::process::Command;

/// Records the calls.
#[derive(Default)]
struct Notebook {
    told: Vec<String>,
    properties: Vec<(u32, u32)>,
    packets: Vec<u8>,
    locked: bool,
}

impl Device for Notebook {
    fn set_voltage(&mut self, is_18_v: bool) -> Result<(), InputError> {
        self.told.push(format!("voltage {}", if is_18_v { 18 } else { 13 }));
        Ok(())
    }
    fn set_tone(&mut self, on: bool) -> Result<(), InputError> {
        self.told.push(format!("tone {on}"));
        Ok(())
    }
    fn send_diseqc(&mut self, message: &[u8]) -> Result<(), InputError> {
        self.told.push(format!("diseqc {message:02x?}"));
        Ok(())
    }
    fn send_burst(&mut self, is_b: bool) -> Result<(), InputError> {
        self.told.push(format!("burst {}", if is_b { 'B' } else { 'A' }));
        Ok(())
    }
    fn set_properties(&mut self, properties: &[(u32, u32)]) -> Result<(), InputError> {
        self.told.push("properties".to_owned());
        self.properties = properties.to_vec();
        Ok(())
    }
    fn signal(&mut self) -> Result<Signal, InputError> {
        Ok(Signal { locked: self.locked, ..Signal::default() })
    }
    fn set_pids(&mut self, pids: &[Pid]) -> Result<(), InputError> {
        self.told.push(format!("pids {pids:?}"));
        Ok(())
    }
    fn read(&mut self, buffer: &mut [u8], _: Duration) -> Result<usize, InputError> {
        let length = self.packets.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.packets[..length]);
        self.packets.drain(..length);
        Ok(length)
    }
    fn pause(&mut self, _: Duration) {}
}

fn carrier(text: &str) -> Carrier {
    carousel::config::load(&format!("symbol_rate_ksps = 27500\n{text}")).unwrap()
}

fn told(text: &str) -> Notebook {
    let mut notebook = Notebook::default();
    tune(&mut notebook, &carrier(text)).unwrap();
    notebook
}

#[test]
fn a_universal_lnb_behind_a_switch() {
    let high = told("frequency_khz = 11727500\npolarization = 'vertical'\nsatellite = 2\n");
    assert_eq!(
        high.told,
        ["tone false", "voltage 13", "diseqc [e0, 10, 38, f5]", "burst B", "tone true", "properties"]
    );
    let low = told("frequency_khz = 10744000\npolarization = 'horizontal'\nsatellite = 3\n");
    assert_eq!(
        low.told,
        ["tone false", "voltage 18", "diseqc [e0, 10, 38, fa]", "burst A", "tone false", "properties"]
    );
    let bare = told("frequency_khz = 11727500\npolarization = 'vertical'\n");
    assert_eq!(bare.told, ["tone false", "voltage 13", "tone true", "properties"]);
}

#[test]
fn the_properties_of_the_example_carrier() {
    let notebook = told(
        "frequency_khz = 11727500\npolarization = 'vertical'\nmodulation = '8PSK'\ncode_rate = '3/4'\nroll_off = '0.20'\npilots = true\nstream_id = 7\n",
    );
    assert_eq!(
        notebook.properties,
        [
            (2, 0),
            (17, 6),
            (3, 1_127_500),
            (8, 27_500_000),
            (9, 3),
            (6, 2),
            (4, 9),
            (13, 1),
            (12, 0),
            (42, 7),
            (1, 0)
        ]
    );
    let plain = told("frequency_khz = 12000000\npolarization = 'left'\nsystem = 'DVB-S'\n");
    assert_eq!(plain.properties, [(2, 0), (17, 5), (3, 1_400_000), (8, 27_500_000), (9, 9), (6, 2), (1, 0)]);
}

#[test]
fn a_read_that_begins_inside_a_packet_finds_the_next() {
    let mut packets = carousel::ts::null_packet().repeat(20);
    packets.drain(..100);
    let device = Notebook { packets, ..Notebook::default() };
    let carrier = carrier("frequency_khz = 11727500\npolarization = 'vertical'\n");
    let mut adapter = Adapter { device, carrier, buffer: vec![0; READ_PACKETS * PACKET_BYTES] };
    let mut count = 0;
    adapter.read(&mut |_| count += 1).unwrap();
    assert_eq!(count, 19);
    adapter.want(&[Pid::PAT]).unwrap();
    adapter.retune().unwrap();
    assert!(!adapter.signal().unwrap().locked && adapter.device.told.contains(&"properties".to_owned()));
}

/// Every size, offset and number of `abi` as the kernel's headers have it.
#[test]
fn structures_and_numbers_are_those_of_the_kernel_s_headers() {
    let ours = [
        ("sizeof(struct dtv_property)", size_of::<abi::DtvProperty>()),
        ("offsetof(struct dtv_property, cmd)", offset_of!(abi::DtvProperty, cmd)),
        ("offsetof(struct dtv_property, reserved)", offset_of!(abi::DtvProperty, reserved)),
        ("offsetof(struct dtv_property, u)", offset_of!(abi::DtvProperty, u)),
        (
            "offsetof(struct dtv_property, u.buffer.len)",
            offset_of!(abi::DtvProperty, u) + offset_of!(abi::DtvBuffer, len),
        ),
        (
            "offsetof(struct dtv_property, u.buffer.reserved1)",
            offset_of!(abi::DtvProperty, u) + offset_of!(abi::DtvBuffer, reserved1),
        ),
        (
            "offsetof(struct dtv_property, u.buffer.reserved2)",
            offset_of!(abi::DtvProperty, u) + offset_of!(abi::DtvBuffer, reserved2),
        ),
        ("offsetof(struct dtv_property, result)", offset_of!(abi::DtvProperty, result)),
        ("sizeof(struct dtv_properties)", size_of::<abi::DtvProperties>()),
        ("offsetof(struct dtv_properties, num)", offset_of!(abi::DtvProperties, num)),
        ("offsetof(struct dtv_properties, props)", offset_of!(abi::DtvProperties, props)),
        ("sizeof(struct dtv_fe_stats)", size_of::<abi::DtvFeStats>()),
        ("offsetof(struct dtv_fe_stats, stat)", offset_of!(abi::DtvFeStats, stat)),
        ("sizeof(struct dtv_stats)", size_of::<abi::DtvStats>()),
        ("offsetof(struct dtv_stats, svalue)", offset_of!(abi::DtvStats, value)),
        ("sizeof(struct dvb_diseqc_master_cmd)", size_of::<abi::DiseqcMasterCmd>()),
        ("offsetof(struct dvb_diseqc_master_cmd, msg_len)", offset_of!(abi::DiseqcMasterCmd, msg_len)),
        ("sizeof(struct dmx_pes_filter_params)", size_of::<abi::PesFilterParams>()),
        ("offsetof(struct dmx_pes_filter_params, input)", offset_of!(abi::PesFilterParams, input)),
        ("offsetof(struct dmx_pes_filter_params, output)", offset_of!(abi::PesFilterParams, output)),
        ("offsetof(struct dmx_pes_filter_params, pes_type)", offset_of!(abi::PesFilterParams, pes_type)),
        ("offsetof(struct dmx_pes_filter_params, flags)", offset_of!(abi::PesFilterParams, flags)),
        ("FE_DISEQC_SEND_MASTER_CMD", abi::FE_DISEQC_SEND_MASTER_CMD.number() as usize),
        ("FE_DISEQC_SEND_BURST", abi::FE_DISEQC_SEND_BURST.number() as usize),
        ("FE_SET_TONE", abi::FE_SET_TONE.number() as usize),
        ("FE_SET_VOLTAGE", abi::FE_SET_VOLTAGE.number() as usize),
        ("FE_READ_STATUS", abi::FE_READ_STATUS.number() as usize),
        ("FE_SET_PROPERTY", abi::FE_SET_PROPERTY.number() as usize),
        ("FE_GET_PROPERTY", abi::FE_GET_PROPERTY.number() as usize),
        ("DMX_STOP", abi::DMX_STOP.number() as usize),
        ("DMX_SET_PES_FILTER", abi::DMX_SET_PES_FILTER.number() as usize),
        ("DMX_SET_BUFFER_SIZE", abi::DMX_SET_BUFFER_SIZE.number() as usize),
        ("DMX_ADD_PID", abi::DMX_ADD_PID.number() as usize),
        ("DMX_REMOVE_PID", abi::DMX_REMOVE_PID.number() as usize),
        ("DTV_TUNE", property::TUNE as usize),
        ("DTV_CLEAR", property::CLEAR as usize),
        ("DTV_FREQUENCY", property::FREQUENCY as usize),
        ("DTV_MODULATION", property::MODULATION as usize),
        ("DTV_INVERSION", property::INVERSION as usize),
        ("DTV_SYMBOL_RATE", property::SYMBOL_RATE as usize),
        ("DTV_INNER_FEC", property::INNER_FEC as usize),
        ("DTV_PILOT", property::PILOT as usize),
        ("DTV_ROLLOFF", property::ROLLOFF as usize),
        ("DTV_DELIVERY_SYSTEM", property::DELIVERY_SYSTEM as usize),
        ("DTV_STREAM_ID", property::STREAM_ID as usize),
        ("DTV_STAT_SIGNAL_STRENGTH", property::STAT_SIGNAL_STRENGTH as usize),
        ("DTV_STAT_CNR", property::STAT_CNR as usize),
        ("QPSK", property::QPSK as usize),
        ("PSK_8", property::PSK_8 as usize),
        ("APSK_16", property::APSK_16 as usize),
        ("APSK_32", property::APSK_32 as usize),
        ("FEC_AUTO", property::FEC_AUTO as usize),
        ("INVERSION_AUTO", property::INVERSION_AUTO as usize),
        ("PILOT_ON", property::PILOT_ON as usize),
        ("PILOT_OFF", property::PILOT_OFF as usize),
        ("PILOT_AUTO", property::PILOT_AUTO as usize),
        ("ROLLOFF_35", property::ROLLOFF_35 as usize),
        ("ROLLOFF_20", property::ROLLOFF_20 as usize),
        ("ROLLOFF_25", property::ROLLOFF_25 as usize),
        ("ROLLOFF_AUTO", property::ROLLOFF_AUTO as usize),
        ("SYS_DVBS", property::SYS_DVBS as usize),
        ("SYS_DVBS2", property::SYS_DVBS2 as usize),
        ("NO_STREAM_ID_FILTER", property::NO_STREAM_ID_FILTER as usize),
        ("FE_HAS_LOCK", abi::HAS_LOCK as usize),
        ("FE_SCALE_DECIBEL", usize::from(abi::SCALE_DECIBEL)),
        ("FE_SCALE_RELATIVE", usize::from(abi::SCALE_RELATIVE)),
        ("SEC_VOLTAGE_13", abi::VOLTAGE_13 as usize),
        ("SEC_VOLTAGE_18", abi::VOLTAGE_18 as usize),
        ("SEC_TONE_ON", abi::TONE_ON as usize),
        ("SEC_TONE_OFF", abi::TONE_OFF as usize),
        ("SEC_MINI_A", abi::MINI_A as usize),
        ("SEC_MINI_B", abi::MINI_B as usize),
        ("DMX_IN_FRONTEND", abi::IN_FRONTEND as usize),
        ("DMX_OUT_TSDEMUX_TAP", abi::OUT_TSDEMUX_TAP as usize),
        ("DMX_PES_OTHER", abi::PES_OTHER as usize),
        ("DMX_IMMEDIATE_START", abi::IMMEDIATE_START as usize),
        ("FEC_1_2", CODE_RATES[0].1 as usize),
        ("FEC_2_3", CODE_RATES[1].1 as usize),
        ("FEC_3_4", CODE_RATES[2].1 as usize),
        ("FEC_4_5", CODE_RATES[3].1 as usize),
        ("FEC_5_6", CODE_RATES[4].1 as usize),
        ("FEC_6_7", CODE_RATES[5].1 as usize),
        ("FEC_7_8", CODE_RATES[6].1 as usize),
        ("FEC_8_9", CODE_RATES[7].1 as usize),
        ("FEC_3_5", CODE_RATES[8].1 as usize),
        ("FEC_9_10", CODE_RATES[9].1 as usize),
        ("FEC_2_5", CODE_RATES[10].1 as usize),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("abi.c"), folder.path().join("abi"));
    let mut text = String::from(
        "#include <stdio.h>\n#include <stddef.h>\n#include <sys/ioctl.h>\n#include <linux/dvb/frontend.h>\n#include <linux/dvb/dmx.h>\nint main(void) {\n",
    );
    // Constants of 32 bits, without regard to their sign.
    for (name, _) in &ours {
        text.push_str(&format!("printf(\"%lu\\n\", (unsigned long)(unsigned int)({name}));\n"));
    }
    text.push_str("return 0; }\n");
    std::fs::write(&source, text).unwrap();
    let compiled = Command::new("cc").arg("-o").arg(&program).arg(&source).output();
    let newest = "FEC_2_5";
    match compiled {
        Err(err) => return eprintln!("SKIPPED: no C compiler: {err}"),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            if said.contains("linux/dvb") && said.contains("No such file") {
                return eprintln!("SKIPPED: the kernel's headers are not here");
            }
            // Headers of long ago lack the code rates of other systems.
            assert!(said.contains(newest), "{said}");
            return eprintln!("SKIPPED: the kernel's headers are older than {newest}");
        }
        Ok(_) => {}
    }
    let output = Command::new(&program).output().unwrap();
    let theirs: Vec<usize> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(theirs.len(), ours.len());
    for ((name, ours), theirs) in ours.iter().zip(&theirs) {
        assert_eq!(ours, theirs, "{name}");
    }
}
