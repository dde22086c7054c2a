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
    assert_eq!(
        query(&carrier(), 0),
        "src=1&freq=11727.5&pol=v&ro=0.20&msys=dvbs2&mtype=8psk&plts=on&sr=27500&fec=34"
    );
    let load = |text: &str| {
        let text =
            format!("frequency_khz = 11727500\npolarization = 'vertical'\nsymbol_rate_ksps = 27500\n{text}");
        carousel::config::load::<Carrier>(&text).unwrap()
    };
    // All parameters of the system are present in every attempt, and attempts differ.
    let bare = load("");
    assert_eq!(queries(&bare).len(), ASSUMED.len());
    for query in &queries(&bare) {
        for name in ["&ro=", "&mtype=", "&plts=", "&fec="] {
            assert_eq!(query.matches(name).count(), 1, "{query}");
        }
    }
    let told = load("modulation = 'QPSK'\ncode_rate = '1/2'\nroll_off = '0.35'\npilots = false\n");
    assert_eq!(queries(&told).len(), 1);
    assert!(query(&told, 0).contains("&ro=0.35&msys=dvbs2&mtype=qpsk&plts=off&sr=27500&fec=12"));
    let old = load("system = 'DVB-S'\n");
    assert_eq!(query(&old, 0), "src=1&freq=11727.5&pol=v&msys=dvbs&sr=27500");
    assert!(query(&old, 1).ends_with("&fec=23"));
}

#[test]
fn what_servers_say_of_a_session() {
    let timeouts = [
        ("0521;timeout=30", Some(30)),
        ("0521; Timeout = \"30\"", Some(30)),
        ("0521", None),
        ("0521;timeout=0", None),
        ("0521;timeout=soon", None),
        ("0521;timeout=99999999", Some(MAX_TIMEOUT_S)),
    ];
    for (session, timeout) in timeouts {
        assert_eq!(timeout_of(session), timeout, "{session}");
    }
    let source = source_of("RTP/AVP;unicast;client_port=5000-5001;source=192.0.2.7;server_port=1-2");
    assert_eq!(source, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(source_of("RTP/AVP;unicast;client_port=5000-5001"), None);
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
}

/// Kind of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Plain,
    /// It ends the connection after each answer.
    Closes,
    /// It answers the first `n` requests of a connection, and ends it when the next one comes.
    EndsAfter(usize),
    /// It knows no OPTIONS and sends blocks of RTP and an empty line before its answers.
    Odd,
    /// It refuses the first `n` SETUPs with this status.
    Refuses(u16, usize),
}

/// A server of one session: answers requests, sends packets and a report, and returns what it received.
fn server(manner: Manner) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        let (mut heard, mut port) = (Vec::new(), 0_u16);
        let rtp_socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        loop {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut writer = stream;
            let mut answers = 0;
            loop {
                let (mut request, mut fields) = (String::new(), String::new());
                if reader.read_line(&mut request).unwrap_or(0) == 0 {
                    break;
                }
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some((_, ports)) = line.split_once("client_port=") {
                        port = ports.split('-').next().unwrap().parse().unwrap();
                    }
                    fields.push_str(&line);
                }
                if manner == Manner::EndsAfter(answers) {
                    break;
                }
                answers += 1;
                let is_session_right = request.starts_with("SETUP") || fields.contains("\r\nSession: 77\r\n");
                let setups = heard.iter().filter(|it: &&String| it.starts_with("SETUP")).count();
                heard.push(request.trim().to_owned());
                let status = match manner {
                    _ if !is_session_right => "454 Session Not Found",
                    Manner::Refuses(404, n) if setups < n => "404 Not Found",
                    Manner::Refuses(_, n) if setups < n => "500 Internal Server Error",
                    Manner::Odd if request.starts_with("OPTIONS") => "501 Not Implemented",
                    _ => "200 OK",
                };
                let before = if manner == Manner::Odd { "$\0\0\u{3}abc\r\n" } else { "" };
                let sequence = fields.lines().find_map(|it| it.strip_prefix("CSeq: ")).unwrap();
                let rest = match status.starts_with("200") {
                    true => "Session: 77;timeout=2\r\ncom.ses.streamID: 5\r\n\r\n",
                    false => "No-More: frontends\r\nContent-Length: 9\r\n\r\nno tuner\n",
                };
                let answer = format!("{before}RTSP/1.0 {status}\r\nCSeq: {sequence}\r\n{rest}");
                writer.write_all(answer.as_bytes()).unwrap();
                if request.starts_with("PLAY") && status.starts_with("200") {
                    for sequence in 0..3 {
                        let mut datagram = Vec::new();
                        rtp::write_header(&mut datagram, sequence, 0, 1);
                        datagram.extend_from_slice(&null_packet().repeat(7));
                        rtp_socket.send_to(&datagram, ("127.0.0.1", port)).unwrap();
                    }
                    rtp_socket.send_to(&report("tuner=1,255,1,15,"), ("127.0.0.1", port + 1)).unwrap();
                }
                if request.starts_with("TEARDOWN") || matches!(manner, Manner::Refuses(404, _)) {
                    return heard;
                }
                if manner == Manner::Closes {
                    break;
                }
            }
        }
    });
    (address, thread)
}

/// Plays until packets and a signal have come and a session was kept alive; what the server heard.
fn play(manner: Manner) -> Vec<String> {
    let (address, thread) = server(manner);
    let mut input = SatIp::open(&address, &carrier()).unwrap();
    let mut packets = 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    input.want(&[Pid::PAT, Pid::new(0x200)]).unwrap();
    while (packets < 21 || input.signal().is_none()) && std::time::Instant::now() < deadline {
        input.read(&mut |_| packets += 1).unwrap();
    }
    input.next_word = clock::now();
    input.read(&mut |_| packets += 1).unwrap();
    assert!(packets >= 21 && input.signal().unwrap().locked, "{manner:?}");
    input.retune().unwrap();
    drop(input);
    thread.join().unwrap()
}

fn methods(heard: &[String]) -> Vec<&str> {
    heard.iter().map(|it| it.split(' ').next().unwrap()).collect()
}

#[test]
fn a_session_from_setup_to_teardown() {
    let heard = play(Manner::Plain);
    assert_eq!(methods(&heard), ["SETUP", "PLAY", "PLAY", "OPTIONS", "PLAY", "TEARDOWN"], "{heard:?}");
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
fn a_session_outlives_its_connections() {
    let plain = ["SETUP", "PLAY", "PLAY", "OPTIONS", "PLAY", "TEARDOWN"];
    for manner in [Manner::Closes, Manner::EndsAfter(1), Manner::EndsAfter(2)] {
        let heard = play(manner);
        assert_eq!(methods(&heard), plain, "{manner:?}");
    }
}

#[test]
fn a_server_without_options_and_with_blocks_between_its_answers() {
    let heard = play(Manner::Odd);
    let all = ["SETUP", "PLAY", "PLAY", "OPTIONS", "GET_PARAMETER", "PLAY", "TEARDOWN"];
    assert_eq!(methods(&heard), all, "{heard:?}");
}

#[test]
fn a_refusal_of_parameters_has_others_tried() {
    let heard = play(Manner::Refuses(500, 1));
    assert_eq!(methods(&heard)[..3], ["SETUP", "SETUP", "PLAY"], "{heard:?}");
    assert_ne!(heard[0], heard[1]);
}

#[test]
fn a_refusal_says_what_the_server_says() {
    let (address, thread) = server(Manner::Refuses(404, 1));
    let why = SatIp::open(&address, &carrier()).unwrap_err().to_string();
    for part in ["refuses SETUP", "404 Not Found", "No-More: frontends", "no tuner"] {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(thread.join().unwrap().len(), 1);
}

#[test]
fn endless_answers_end() {
    let endless = [
        "RTSP/1.0 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(100),
        "RTSP/1.0 200 OK\r\nA: ".to_owned() + &"x".repeat(5000),
        "RTSP/1.0 200 OK\r\nContent-Length: 70000\r\n\r\n".to_owned(),
        "\r\n".repeat(20_000),
    ];
    for answer in endless {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            // The client may hang up before all of it is sent.
            let _ = stream.write_all(answer.as_bytes());
        });
        let why: String = Rtsp::connect(&address).unwrap().ask("OPTIONS", "*", &[]).unwrap_err().into();
        assert!(!why.contains("refuses"), "{why}");
        thread.join().unwrap();
    }
    // The next answer is read again.
    assert_eq!(methods(&play(Manner::Plain)).len(), 6);
}

#[test]
fn what_a_server_says_is_sent_back_only_if_it_is_a_word() {
    let setup = |stream: &str| {
        let text = format!("RTSP/1.0 200 OK\r\ncom.ses.streamID: {stream}\r\n\r\n");
        Setup::of(&crate::transport::input::rtsp::answer(&mut text.as_bytes(), "SETUP").unwrap()).stream
    };
    assert_eq!(setup("7 ; x"), "7");
    for odd in ["3\rTEARDOWN rtsp://x", "", "a b", "\u{1}"] {
        assert_eq!(setup(odd), "1", "{odd:?}");
    }
}
