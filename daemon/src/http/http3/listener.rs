//! UDP socket of HTTP/3: accepts QUIC connections, which the workers serve.
//!
//! One socket receives the datagrams of all connections, so that a client whose address changes keeps its connection. The
//! worker that has the connection decrypts and builds its packets; the shared part only reads datagrams and passes them on.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, Incoming, TokioRuntime, TransportConfig, VarInt};
use tokio::runtime::Handle;

use crate::http::connection::{KEEP_ALIVE, MAX_STREAMS};
use crate::http::tls::Acceptor;

carousel::limits! {
    /// Unidirectional streams of a client at a time.
    const MAX_UNI_STREAMS: u32 = 8, "streams" {
        why: "Control, two of QPACK (RFC 9114 section 6.2 asks for three at least), and those of extensions that are ignored.",
        full: "QUIC does not let the client open more.",
        free: "When a stream has ended.",
        test: "streams_and_windows_of_a_connection_are_bounded",
    }

    /// Bytes of one stream of a client that have not been read: the body of a request.
    const MAX_STREAM_WINDOW_BYTES: u32 = 256 << 10, "bytes" {
        why: "20 Mbit/s at 100 ms; uploads are rare.",
        full: "The client sends no more of this stream (RFC 9000 section 4.1).",
        free: "When they are read, or the stream is given up.",
        test: "streams_and_windows_of_a_connection_are_bounded",
    }

    /// Bytes of all streams of a client that have not been read.
    const MAX_CONNECTION_WINDOW_BYTES: u32 = 1 << 20, "bytes" {
        why: "Four streams with full windows.",
        full: "The client sends no more on any stream (RFC 9000 section 4.1).",
        free: "When they are read.",
        test: "streams_and_windows_of_a_connection_are_bounded",
    }

    /// Bytes of the responses of one connection that its client has not acknowledged.
    const MAX_UNACKNOWLEDGED_BYTES: u64 = 4 << 20, "bytes" {
        why: "100 Mbit/s at 300 ms.",
        full: "No more is written to the connection; its objects are read later.",
        free: "When the client acknowledges them, or the connection ends after 90 s of silence.",
        test: "streams_and_windows_of_a_connection_are_bounded",
    }

    /// Connections over QUIC that wait for their handshake to begin.
    const MAX_WAITING: usize = 1024, "connections" {
        why: "Workers take them as fast as they can; each has a datagram and its keys.",
        full: "The first datagram of another one is dropped; its client sends it again after about a second.",
        free: "When a worker takes one.",
        test: "connections_before_their_handshake_are_bounded_with_their_data",
    }

    /// Bytes of further datagrams of a connection that waits for its handshake.
    const MAX_WAITING_BYTES: u64 = 16 << 10, "bytes" {
        why: "The early data of a few requests; clients send about 14 KB before an answer.",
        full: "The datagram is dropped; its client sends it again.",
        free: "When a worker takes the connection.",
        test: "connections_before_their_handshake_are_bounded_with_their_data",
    }

    /// Bytes of such datagrams of all connections together.
    const MAX_ALL_WAITING_BYTES: u64 = 4 << 20, "bytes" {
        why: "A quarter of the connections that may wait, each with all of its early data.",
        full: "The datagram is dropped; its client sends it again.",
        free: "When workers take connections.",
        test: "connections_before_their_handshake_are_bounded_with_their_data",
    }

    /// Handshakes at a time whose clients need not have validated their address.
    const MAX_UNVALIDATED_HANDSHAKES: u64 = 256, "handshakes" {
        why: "Forged addresses cost a handshake each; a validated one costs its client another round trip.",
        full: "The client gets a Retry packet (RFC 9000 section 8.1.2), and comes back with its token.",
        free: "When a handshake has ended.",
        test: "connections_before_their_handshake_are_bounded_with_their_data",
    }
}

/// Silence after which a client counts as gone; an idle one is pinged after [`KEEP_ALIVE`].
const GONE_AFTER: Duration = Duration::from_secs(90);
/// Buffers of the socket.
const SOCKET_BYTES: usize = 4 << 20;

/// Accepts QUIC connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::http) struct Listener(Endpoint);

impl Listener {
    /// Opens QUIC on a socket, with the certificates of TLS. `runtime` reads the socket.
    ///
    /// # Errors
    /// One line.
    pub(in crate::http) fn open(
        socket: UdpSocket,
        acceptor: &Acceptor,
        runtime: &Handle,
    ) -> Result<Self, String> {
        let failed = |err: &dyn std::fmt::Display| format!("[http.tls] http3: {err}");
        let sizes = socket2::SockRef::from(&socket);
        // As far as the system permits.
        let _ = sizes.set_recv_buffer_size(SOCKET_BYTES);
        let _ = sizes.set_send_buffer_size(SOCKET_BYTES);
        let crypto = QuicServerConfig::try_from(acceptor.for_quic()?).map_err(|err| failed(&err))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(Arc::new(transport()))
            .max_incoming(MAX_WAITING)
            .incoming_buffer_size(MAX_WAITING_BYTES)
            .incoming_buffer_size_total(MAX_ALL_WAITING_BYTES);
        let _inside = runtime.enter();
        Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))
            .map(Self)
            .map_err(|err| failed(&err))
    }

    /// The next connection; `None`: the listener is closed.
    pub(in crate::http) async fn accept(&self) -> Option<Incoming> {
        self.0.accept().await
    }

    /// Whether a client must validate its address before its handshake begins.
    pub(in crate::http) fn is_to_prove(incoming: &Incoming, handshakes: u64) -> bool {
        handshakes >= MAX_UNVALIDATED_HANDSHAKES
            && incoming.may_retry()
            && !incoming.remote_address_validated()
    }

    /// Refuses new connections from now on.
    pub(in crate::http) fn close(&self) {
        self.0.set_server_config(None);
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(MAX_STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(MAX_CONNECTION_WINDOW_BYTES))
        .send_window(MAX_UNACKNOWLEDGED_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(GONE_AFTER).ok())
        .datagram_receive_buffer_size(None);
    transport
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::poll_fn;
    use std::net::SocketAddr;
    use std::pin::pin;
    use std::task::Poll;

    use quinn::SendStream;
    use quinn::crypto::rustls::QuicClientConfig;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::certificates;
    use crate::http::options::Tls;

    /// Time in which what may come over loopback has come.
    const QUIET: Duration = Duration::from_millis(500);

    /// A listener, its address, and a client that trusts it; none without OpenSSL.
    fn listener() -> Option<(Listener, SocketAddr, Endpoint)> {
        let folder = tempfile::tempdir().unwrap();
        let names = ["-addext", "subjectAltName=DNS:box.lan", "-days", "2"];
        if !certificates::tests::make(folder.path(), "box.pem", "box.key", &names) {
            return None;
        }
        let file = |name: &str| folder.path().join(name);
        let (certificate, key) = (file("box.pem"), file("box.key"));
        let mut tls = certificates::client_trusting(&certificate).unwrap();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let options = Tls { listen: Vec::new(), certificate, key, http3: true };
        let acceptor = crate::http::acceptor(&options, &Arc::default()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::open(socket, &acceptor, &Handle::current()).unwrap();
        let mut client = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let mut wide = TransportConfig::default();
        wide.stream_receive_window(VarInt::from_u32(64 << 20)).send_window(64 << 20);
        config.transport_config(Arc::new(wide));
        client.set_default_client_config(config);
        Some((listener, address, client))
    }

    /// Bytes that a stream takes at once.
    async fn fill(stream: &mut SendStream) -> u64 {
        let mut taken = 0;
        loop {
            let written = {
                let mut write = pin!(stream.write(&[7; 64 << 10]));
                poll_fn(|cx| Poll::Ready(write.as_mut().poll(cx))).await
            };
            match written {
                Poll::Ready(written) => taken += written.unwrap() as u64,
                Poll::Pending => return taken,
            }
        }
    }

    #[tokio::test]
    async fn streams_and_windows_of_a_connection_are_bounded() {
        let Some((listener, address, client)) = listener() else { return };
        let connect = async || client.connect(address, "box.lan").unwrap().await.unwrap();
        let accept = async || listener.accept().await.unwrap().await.unwrap();
        let (ours, server) = tokio::join!(connect(), accept());
        let mut open = Vec::new();
        while let Ok(stream) = timeout(QUIET, ours.open_uni()).await {
            open.push(stream.unwrap());
        }
        assert_eq!(open.len(), MAX_UNI_STREAMS as usize);
        // Streams that end make room; the listener tells the client of several at once.
        for stream in &mut open[..4] {
            stream.write_all(&[1]).await.unwrap();
            stream.finish().unwrap();
            server.accept_uni().await.unwrap().read_to_end(1).await.unwrap();
        }
        open.push(timeout(QUIET, ours.open_uni()).await.expect("room").unwrap());

        // The window of one stream, and that of all. Four bytes have been read above.
        let (of_one, of_all) = (u64::from(MAX_STREAM_WINDOW_BYTES), u64::from(MAX_CONNECTION_WINDOW_BYTES));
        let (mut sent, mut taken) = (Vec::new(), Vec::new());
        for stream in 0..5 {
            sent.push(ours.open_bi().await.unwrap());
            taken.push(fill(&mut sent[stream].0).await);
        }
        assert_eq!(taken[..3], [of_one; 3]);
        assert!((of_all - 4..=of_all).contains(&taken.iter().sum()), "{taken:?}");
        // Bytes that are read make room.
        let (_, mut received) = server.accept_bi().await.unwrap();
        received.read_exact(&mut vec![0; of_one as usize]).await.unwrap();
        sleep(QUIET).await;
        // The listener does not tell the client of the last few bytes each time.
        let more = fill(&mut sent[0].0).await;
        assert!((of_one / 2..=of_one).contains(&more), "{more}");

        // Responses that nobody has acknowledged: the client's part runs on this thread too.
        let (mut response, _) = server.accept_bi().await.unwrap();
        assert_eq!(fill(&mut response).await, MAX_UNACKNOWLEDGED_BYTES);
        sleep(QUIET).await;
        assert!(fill(&mut response).await > 100 << 10);
    }

    /// First datagrams of this number of connections.
    async fn first_datagrams(client: &Endpoint, count: usize) -> Vec<Vec<u8>> {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = socket.local_addr().unwrap();
        let mut found = HashMap::new();
        let mut buffer = [0; 2048];
        while found.len() < count {
            let connecting = client.connect(to, "box.lan").unwrap();
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                // An Initial packet, by its connection ID (RFC 9000 section 17.2.2). Another one with that closes the connection.
                let datagram = &buffer[..length];
                let id = &datagram[6..6 + usize::from(datagram[5])];
                if datagram[0] & 0xf0 == 0xc0 && !found.contains_key(id) {
                    found.insert(id.to_vec(), datagram.to_vec());
                    break;
                }
            }
            drop(connecting);
        }
        found.into_values().collect()
    }

    #[tokio::test]
    async fn connections_before_their_handshake_are_bounded_with_their_data() {
        let Some((listener, address, client)) = listener() else { return };
        let firsts = first_datagrams(&client, MAX_WAITING + 10).await;
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(address).await.unwrap();
        let send = async |datagram: &[u8]| {
            socket.send(datagram).await.unwrap();
            // The listener reads it, so that the system drops none.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        for first in &firsts {
            send(first).await;
        }
        sleep(QUIET).await;
        let mut waiting = Vec::new();
        while let Ok(incoming) = timeout(QUIET, listener.accept()).await {
            waiting.push(incoming.unwrap());
        }
        assert_eq!(waiting.len(), MAX_WAITING);
        // Another one finds room when one is gone.
        waiting.pop().unwrap().ignore();
        for first in &firsts[MAX_WAITING..] {
            send(first).await;
        }
        waiting.push(timeout(QUIET, listener.accept()).await.expect("room").unwrap());
        assert!(timeout(QUIET, listener.accept()).await.is_err());

        // An address is validated when there are many handshakes.
        assert!(!Listener::is_to_prove(&waiting[0], MAX_UNVALIDATED_HANDSHAKES - 1));
        assert!(Listener::is_to_prove(&waiting[0], MAX_UNVALIDATED_HANDSHAKES));

        // Further datagrams of a connection that waits: the first one again, which goes to the same place.
        let length = firsts[0].len() as u64;
        let of_one = MAX_WAITING_BYTES / length;
        let of_all = MAX_ALL_WAITING_BYTES / length;
        let many = (of_all / of_one + 2) as usize;
        for first in &firsts[..many] {
            for _ in 0..of_one + 3 {
                send(first).await;
            }
        }
        sleep(QUIET).await;
        let mut held: Vec<u64> = Vec::new();
        for incoming in waiting.into_iter().take(many) {
            let Ok((connection, _)) = incoming.accept().unwrap().into_0rtt() else { panic!("no connection") };
            // Of its first datagram nothing is counted.
            held.push(connection.stats().udp_rx.datagrams);
        }
        assert_eq!(held.iter().max(), Some(&of_one), "{held:?}");
        assert_eq!(held.iter().sum::<u64>(), of_all, "{held:?}");
    }
}
