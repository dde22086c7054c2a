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

/// Unidirectional streams of a client at a time: control, two of QPACK (RFC 9114 section 6.2 asks for three at least), and those
/// of extensions that are ignored. QUIC does not let a client open more.
const MAX_UNI_STREAMS: u32 = 8;
/// Unread bytes of one request's body, and of all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Unacknowledged bytes of one connection's responses: 100 Mbit/s at 300 ms.
const SEND_WINDOW_BYTES: u64 = 4 << 20;
/// Silence after which a client counts as gone; an idle one is pinged after [`KEEP_ALIVE`].
const GONE_AFTER: Duration = Duration::from_secs(90);
/// Connections queued by quinn before their handshake. Excess ones are dropped, and their clients retry.
const MAX_WAITING: usize = 1024;
/// Queued bytes of early data, of one such connection and of all.
const WAITING_BYTES: u64 = 16 << 10;
const ALL_WAITING_BYTES: u64 = 4 << 20;
/// Concurrent handshakes from which on clients must validate their address first (RFC 9000 section 8.1.2).
const MANY_HANDSHAKES: u64 = 256;
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
            .incoming_buffer_size(WAITING_BYTES)
            .incoming_buffer_size_total(ALL_WAITING_BYTES);
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
        handshakes >= MANY_HANDSHAKES && incoming.may_retry() && !incoming.remote_address_validated()
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
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(GONE_AFTER).ok())
        .datagram_receive_buffer_size(None);
    transport
}
