//! The two servers, the origin behind both, and what they serve.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const MANIFEST_BYTES: usize = 2 << 10;
const RANGE_BYTES: u64 = 64 << 10;
/// Objects of the trace, and their mean size: 1.4 GB.
const TRACE_OBJECTS: usize = 2800;
const TRACE_BYTES: usize = 500_000;
/// Requests that stand for the trace's popularities.
const TRACE_DRAWS: usize = 50_000;

pub(crate) trait Server {
    fn address(&self) -> SocketAddr;
    /// Address of TLS; over UDP QUIC, if it does.
    fn secure(&self) -> SocketAddr;
    /// CPU seconds of all its processes so far.
    fn cpu_s(&self) -> f64;
}

pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    trace: Vec<(String, u64)>,
}

type Paths = Arc<Vec<(String, u64)>>;

/// Writes what is served. Bytes do not repeat, as those of media do not.
pub(crate) fn make_tree(root: &Path) -> Tree {
    std::fs::create_dir_all(root.join("trace")).expect("a folder");
    let mut state = 1_u64;
    let mut noise = |bytes: usize| {
        let mut out = Vec::with_capacity(bytes + 8);
        while out.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
        }
        out.truncate(bytes);
        out
    };
    let write = |name: &str, bytes: &[u8]| std::fs::write(root.join(name), bytes).expect("written");
    let mut manifest = String::from("#EXTM3U\n#EXT-X-VERSION:7\n");
    let mut number = 0;
    while manifest.len() < MANIFEST_BYTES - 40 {
        manifest.push_str(&format!("#EXTINF:4.0,\nsegment-{number:05}.m4s\n"));
        number += 1;
    }
    write("manifest.m3u8", manifest.as_bytes());
    write("half.m4s", &noise(512 << 10));
    write("two.m4s", &noise(2 << 20));
    let mut trace = Vec::new();
    for number in 0..TRACE_OBJECTS {
        let bytes = TRACE_BYTES / 2 + number * 7919 % TRACE_BYTES;
        let name = format!("trace/{number:05}.m4s");
        write(&name, &noise(bytes));
        trace.push((format!("/o/{name}"), bytes as u64));
    }
    Tree { root: root.to_path_buf(), trace }
}

impl Tree {
    /// Every path, and its file.
    pub(crate) fn all(&self) -> Vec<(String, PathBuf)> {
        let single = ["/o/manifest.m3u8", "/o/half.m4s", "/o/two.m4s"].map(str::to_owned);
        let paths = single.into_iter().chain(self.trace.iter().map(|(path, _)| path.clone()));
        paths.map(|path| (path.clone(), self.file(&path))).collect()
    }

    /// The file behind a path of the route.
    fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches("/o/"))
    }

    /// Name, what is asked for, and bytes of ranges.
    pub(crate) fn scenarios(&self) -> Vec<(&'static str, Paths, Option<u64>)> {
        let one = |path: &str| {
            let length = std::fs::metadata(self.file(path)).expect("there").len();
            Arc::new(vec![(path.to_owned(), length)])
        };
        vec![
            ("manifest 2 KB", one("/o/manifest.m3u8"), None),
            ("segment 0.5 MB", one("/o/half.m4s"), None),
            ("segment 2 MB", one("/o/two.m4s"), None),
            ("range 64 KB", one("/o/two.m4s"), Some(RANGE_BYTES)),
            ("zipf 1.4 GB", self.draws(), None),
        ]
    }

    /// Draws by Zipf's law (exponent 1), in a fixed order.
    fn draws(&self) -> Paths {
        let weights: Vec<f64> = (1..=self.trace.len()).map(|rank| 1.0 / rank as f64).collect();
        let sum: f64 = weights.iter().sum();
        let mut draws = Vec::with_capacity(TRACE_DRAWS);
        for (rank, weight) in weights.iter().enumerate() {
            let count = (weight / sum * TRACE_DRAWS as f64).round().max(1.0) as usize;
            draws.extend(std::iter::repeat_n(self.trace[rank].clone(), count));
        }
        Arc::new(draws)
    }
}

/// Certificate and key for `localhost`, the same for both servers.
pub(crate) fn certificate(folder: &Path) -> [PathBuf; 2] {
    let files = [folder.join("cert.pem"), folder.join("key.pem")];
    if !files[0].exists() {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        let made =
            openssl.arg("-keyout").arg(&files[1]).arg("-out").arg(&files[0]).output().expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
    files
}

fn free_port() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}

fn wait_for(address: SocketAddr) {
    for _ in 0..100 {
        if TcpStream::connect(address).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{address} does not answer");
}

/// CPU seconds of one process, its threads included.
fn cpu_of(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime are fields 14 and 15; two stand before the name's end. A tick is 10 ms on every Linux there is.
    (ticks(11) + ticks(12)) / 100.0
}

fn children_of(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|it| it.parse().ok()).collect()
}

pub(crate) struct Nginx {
    child: Child,
    origin: Child,
    address: SocketAddr,
    tls: SocketAddr,
    origin_address: SocketAddr,
}

impl Nginx {
    /// As a cache, and as the origin of both.
    pub(crate) fn start(folder: &Path, root: &Path) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let (address, tls, origin_address) = (free_port(), free_port(), free_port());
        let [certificate, key] = certificate(folder);
        let start = |name: &str, http: String| {
            let home = folder.join(name);
            std::fs::create_dir_all(home.join("tmp")).expect("a folder");
            let tmp = |what: &str| format!("{what}_temp_path {};", home.join("tmp").join(what).display());
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(tmp).join(" ");
            let config = format!(
                "worker_processes {workers}; pid {pid}; error_log {log} error; daemon off; user root;\nevents {{ worker_connections 4096; }}\nhttp {{ include /etc/nginx/mime.types; sendfile on; tcp_nodelay on; keepalive_requests 100000000; {temporary}\n{http} }}\n",
                pid = home.join("pid").display(),
                log = home.join("error.log").display(),
            );
            let path = home.join("nginx.conf");
            std::fs::File::create(&path).and_then(|mut it| it.write_all(config.as_bytes())).expect("written");
            let nginx =
                Command::new("nginx").arg("-c").arg(&path).arg("-p").arg(&home).stderr(Stdio::null()).spawn();
            nginx.expect("nginx is needed: apt-get install nginx-light")
        };
        let origin = start(
            "origin",
            format!(
                "access_log off; server {{ listen {origin_address}; root {}; etag on; }}",
                root.display()
            ),
        );
        wait_for(origin_address);
        let home = folder.join("nginx");
        let child = start(
            "nginx",
            format!(
                "access_log {log} combined; proxy_cache_path {cache} levels=1:2 keys_zone=c:50m max_size=20g inactive=1d use_temp_path=off;\nserver {{ listen {address}; listen {tls} ssl http2; ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; http2_max_requests 100000000; location /o/ {{ proxy_pass http://{origin_address}/; proxy_cache c; proxy_cache_valid 200 206 1d; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_cache_lock on; add_header X-Cache $upstream_cache_status; }} }}",
                certificate = certificate.display(),
                key = key.display(),
                log = home.join("access.log").display(),
                cache = home.join("cache").display(),
            ),
        );
        wait_for(address);
        Self { child, origin, address, tls, origin_address }
    }

    pub(crate) const fn origin(&self) -> SocketAddr {
        self.origin_address
    }
}

impl Server for Nginx {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn secure(&self) -> SocketAddr {
        self.tls
    }

    fn cpu_s(&self) -> f64 {
        cpu_of(self.child.id()) + children_of(self.child.id()).into_iter().map(cpu_of).sum::<f64>()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        for child in [&mut self.child, &mut self.origin] {
            // Its workers end with it.
            let pid = child.id().to_string();
            let _ = Command::new("kill").args(["-TERM", &pid]).status();
            let _ = child.wait();
        }
    }
}

pub(crate) struct Skycached {
    child: Child,
    address: SocketAddr,
    tls: SocketAddr,
}

impl Skycached {
    /// The `program`, with its files in `folder/name`.
    pub(crate) fn start(program: &Path, name: &str, folder: &Path, origin: SocketAddr) -> Self {
        let (address, tls) = (free_port(), free_port());
        let [certificate, key] = certificate(folder);
        let home = folder.join(name);
        std::fs::create_dir_all(&home).expect("a folder");
        let config = format!(
            "[receive]\nannouncement = [\"239.255.77.78:3937\"]\ninterface = \"127.0.0.1\"\n[store]\npath = \"{home}/cache\"\nquota_bytes = 20_000_000_000\nreserve_bytes = 0\nmemory_bytes = 67_108_864\n[http]\nlisten = \"{address}\"\nmanifest_ttl_s = 86_400\nsegment_ttl_s = 86_400\nprefetch_segments = 0\n[http.tls]\nlisten = \"{tls}\"\ncertificate = {certificate:?}\nkey = {key:?}\n[http.access_log]\npath = \"{home}/access.log\"\n[[route]]\npath = \"/o/\"\nbase = \"http://{origin}/\"\n[admin]\nsocket = \"{home}/admin.sock\"\nlisten = []\n[log]\nlevel = \"warn\"\n",
            home = home.display(),
        );
        let path = home.join("skycached.toml");
        std::fs::write(&path, config).expect("written");
        let child = Command::new(program).arg("run").arg("-c").arg(&path).spawn();
        let child = child.expect("skycached");
        wait_for(address);
        Self { child, address, tls }
    }
}

impl Server for Skycached {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn secure(&self) -> SocketAddr {
        self.tls
    }

    fn cpu_s(&self) -> f64 {
        cpu_of(self.child.id())
    }
}

impl Drop for Skycached {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
    }
}
