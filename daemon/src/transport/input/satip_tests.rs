use super::*;
use carousel::ts::{null_packet, rtp};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;

fn carrier() -> Carrier {
    carousel::config::load(
        "frequency_khz = 11727500\npolarization = 'vertical'\nsymbol_rate_ksps = 27500\nmodulation = '8PSK'\ncode_rate = '3/4'\nroll_off = '0.20'\nsatellite = 1\n",
    )
    .unwrap()
}

fn report(text: &str) -> Vec<u8> {
    let mut app = vec![0x80, 204, 0, 0, 0, 0, 0, 1];
    app.extend_from_slice(b"SES1\0\0");
    app.extend_from_slice(&(text.len() as u16).to_be_bytes());
    app.extend_from_slice(text.as_bytes());
    while !app.len().is_multiple_of(4) {
        app.push(0);
    }
    let words = (app.len() / 4 - 1) as u16;
    app[2..4].copy_from_slice(&words.to_be_bytes());
    // A sender report goes before, as in every compound packet.
    [&[0x80, 200, 0, 6][..], &[0; 24], &app].concat()
}

#[test]
fn the_query_is_that_of_the_specification() {
    assert_eq!(query(&carrier()), "src=1&freq=11727.5&pol=v&msys=dvbs2&sr=27500&mtype=8psk&ro=0.20&fec=34");
}

#[test]
fn signal_is_read_from_compound_reports() {
    let text = "vers=1.0;src=1;tuner=1,224,1,12,11727.50,v,dvbs2,8psk,off,0.20,27500,34;pids=0,16";
    let signal = signal_of(&report(text)).unwrap();
    assert!(signal.locked && (signal.quality_percent.unwrap() - 80.0).abs() < 0.01);
    assert!(!signal_of(&report("tuner=1,10,0,0,")).unwrap().locked);
    for cut in 0..report(text).len() {
        let _ = signal_of(&report(text)[..cut]);
    }
    assert_eq!(timeout_of("0521;timeout=30"), Some(30));
}

/// A server of one session: answers what it is asked, sends packets and a report, and tells what it heard.
fn server(refuse: bool) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let (mut writer, mut heard, mut port) = (stream, Vec::new(), 0_u16);
        let rtp_socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        loop {
            let (mut request, mut sequence) = (String::new(), String::new());
            if reader.read_line(&mut request).unwrap_or(0) == 0 {
                return heard;
            }
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.strip_prefix("CSeq:") {
                    sequence = value.trim().to_owned();
                }
                if let Some((_, ports)) = line.split_once("client_port=") {
                    port = ports.split('-').next().unwrap().parse().unwrap();
                }
            }
            heard.push(request.trim().to_owned());
            let answer = match refuse {
                true => format!(
                    "RTSP/1.0 404 Not Found\r\nCSeq: {sequence}\r\nContent-Length: 9\r\n\r\nno tuner\n"
                ),
                false => format!(
                    "RTSP/1.0 200 OK\r\nCSeq: {sequence}\r\nSession: 77;timeout=2\r\ncom.ses.streamID: 5\r\n\r\n"
                ),
            };
            writer.write_all(answer.as_bytes()).unwrap();
            if request.starts_with("PLAY") {
                for sequence in 0..3 {
                    let mut datagram = Vec::new();
                    rtp::write_header(&mut datagram, sequence, 0, 1);
                    datagram.extend_from_slice(&null_packet().repeat(7));
                    rtp_socket.send_to(&datagram, ("127.0.0.1", port)).unwrap();
                }
                rtp_socket.send_to(&report("tuner=1,255,1,15,"), ("127.0.0.1", port + 1)).unwrap();
            }
        }
    });
    (address, thread)
}

#[test]
fn a_session_from_setup_to_teardown() {
    let (address, thread) = server(false);
    let mut input = SatIp::open(&address, carrier()).unwrap();
    let mut packets = 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    input.want(&[Pid::PAT, Pid::new(0x200)]).unwrap();
    while (packets < 21 || input.signal().is_none() || clock::now() < input.next_word)
        && std::time::Instant::now() < deadline
    {
        input.read(&mut |_| packets += 1).unwrap();
    }
    input.read(&mut |_| packets += 1).unwrap();
    assert!(packets >= 21 && input.signal().unwrap().locked);
    input.retune().unwrap();
    drop(input);
    let heard = thread.join().unwrap();
    let methods: Vec<_> = heard.iter().map(|it| it.split(' ').next().unwrap()).collect();
    assert_eq!(methods, ["SETUP", "PLAY", "PLAY", "OPTIONS", "PLAY", "TEARDOWN"], "{heard:?}");
    assert!(
        heard[0].contains("/?src=1&freq=11727.5&pol=v") && heard[0].contains("&pids=0,16,17,20 "),
        "{heard:?}"
    );
    assert!(
        heard[2].contains("/stream=5?pids=0,512 ") && heard[4].contains("/stream=5?src=1&freq="),
        "{heard:?}"
    );
}

#[test]
fn a_refusal_says_what_the_server_says() {
    let (address, thread) = server(true);
    let why = SatIp::open(&address, carrier()).unwrap_err();
    assert!(
        why.contains("refuses SETUP") && why.contains("404 Not Found") && why.contains("no tuner"),
        "{why}"
    );
    thread.join().unwrap();
}
