//! Scripted origin: sends exactly the bytes that a story gives it, and records the requests.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Number of requests for this path, this one included.
    pub time: usize,
}

impl Asked {
    /// The first line of a field, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }
}

/// Next step of an origin.
#[derive(Debug, Clone)]
pub enum Step {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Does nothing for this time.
    Wait(Duration),
    /// Closes the connection.
    Close,
}

/// A whole response.
pub fn answer(status: u16, fields: &[(&str, &str)], body: &[u8]) -> Vec<Step> {
    let mut head = format!("HTTP/1.1 {status} Story\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) && status != 304 {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    vec![Step::Send([head.as_bytes(), body].concat())]
}

type Script = dyn Fn(&Asked) -> Vec<Step> + Send + Sync;

/// A running origin.
pub struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Scripted {
    /// Starts it on a port of loopback that the system picks.
    ///
    /// # Panics
    /// If there is no port.
    pub fn start(script: impl Fn(&Asked) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (remembered, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            let times = Arc::new(Mutex::new(HashMap::new()));
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (script, asked, times) =
                    (Arc::clone(&script), Arc::clone(&remembered), Arc::clone(&times));
                std::thread::spawn(move || serve(stream, &*script, &asked, &times));
            }
        });
        Self { address, asked, stop }
    }

    /// Its address.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request for this path.
    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|it| it.path == path).cloned().collect()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    script: &Script,
    asked: &Mutex<Vec<Asked>>,
    times: &Mutex<HashMap<String, usize>>,
) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    while let Some(mut request) = read(&mut stream, &mut bytes) {
        {
            let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
            let time = times.entry(request.path.clone()).or_insert(0);
            *time += 1;
            request.time = *time;
        }
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        for step in script(&request) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        return;
                    }
                }
                Step::Wait(time) => std::thread::sleep(time),
                Step::Close => return,
            }
        }
    }
}

/// One request with a body of known length, or in chunks.
fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<Asked> {
    let more = |stream: &mut TcpStream, bytes: &mut Vec<u8>| {
        let mut piece = [0; 65536];
        let count = stream.read(&mut piece).ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        Some(())
    };
    let end = loop {
        match bytes.windows(4).position(|it| it == b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => more(stream, bytes)?,
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let field = |name: &str| fields.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str());
    let over = if field("transfer-encoding").is_some() {
        loop {
            match bytes[end..].windows(5).position(|it| it == b"0\r\n\r\n") {
                Some(at) => break end + at + 5,
                None => more(stream, bytes)?,
            }
        }
    } else {
        end + field("content-length").and_then(|it| it.parse().ok()).unwrap_or(0_usize)
    };
    while bytes.len() < over {
        more(stream, bytes)?;
    }
    let body = bytes[end..over].to_vec();
    bytes.drain(..over);
    Some(Asked { method, path, fields, body, time: 0 })
}
