#!/bin/sh
# An HTTP/3 client of aioquic ends the connection at a response to HEAD, or a 304, that has Content-Length.
#
# RFC 9114 section 4.1.2 makes a message malformed whose Content-Length is not the sum of its DATA frames, and goes on: a response that
# has no content by definition, such as one to HEAD or a 304, may have a Content-Length other than zero although its DATA frames have
# nothing. RFC 9110 section 9.3.2 says that a server SHOULD send to HEAD the fields of the GET. One would expect the fields; aioquic 1.7.2
# (PyPI) compares all the same:
#        GET, 200, 500 bytes                    fields and content
#        HEAD, 200, Content-Length: 500         connection closed, H3_MESSAGE_ERROR "content-length does not match data size"
#        GET, 304, Content-Length: 500          the same
#        HEAD, 200, no length                   fields
# All other requests go with the connection. A tool that asks for the length of a film by HEAD over HTTP/3 never gets one, and a client that
# revalidates a playlist loses its connection if the server repeats the length in the 304, where it may be left out (RFC 9110 section 8.6).
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q aioquic==1.7.2
cat >"$dir/test.py" <<'EOF'
# Both ends in memory, on a clock of their own.
import datetime, ssl
from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
certificate = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day).sign(key, hashes.SHA256())
client_address, server_address = ("127.0.0.1", 2), ("127.0.0.1", 1)


def exchange(method, status, fields, content=b""):
    """Names of the events that the client sees, and why it was closed."""
    ours = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, server_name="localhost")
    theirs = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    theirs.certificate, theirs.private_key = certificate, key
    client = QuicConnection(configuration=ours)
    client.connect(server_address, now=0.0)
    server = QuicConnection(
        configuration=theirs, original_destination_connection_id=client.original_destination_connection_id
    )
    http, seen = {}, {client: [], server: []}

    def events(connection):
        while (event := connection.next_event()) is not None:
            if connection in http:
                seen[connection] += [type(it).__name__ for it in http[connection].handle_event(event)]

    stream, is_answered = None, False
    for turn in range(1, 40):
        at = turn / 100
        for datagram, _ in client.datagrams_to_send(now=at):
            server.receive_datagram(datagram, client_address, now=at)
        events(server)
        if "HeadersReceived" in seen[server] and not is_answered:
            is_answered = True
            head = [(b":status", status), *fields]
            http[server].send_headers(stream, head, end_stream=not content)
            if content:
                http[server].send_data(stream, content, end_stream=True)
        for datagram, _ in server.datagrams_to_send(now=at):
            client.receive_datagram(datagram, server_address, now=at)
        events(client)
        if turn == 8:
            http = {client: H3Connection(client), server: H3Connection(server)}
            stream = client.get_next_available_stream_id()
            names = ((b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/film.mp4"))
            http[client].send_headers(stream, list(names), end_stream=True)
    assert is_answered
    # The event of the end comes only after the time for draining.
    closed = client._close_event
    return seen[client], closed and (int(closed.error_code), closed.reason_phrase)


length = [(b"content-length", b"500")]
refused = (0x10E, "content-length does not match data size")
for what, wanted in (
    ((b"GET", b"200", length, b"x" * 500), (["HeadersReceived", "DataReceived"], None)),
    ((b"HEAD", b"200", length), ([], refused)),
    ((b"GET", b"304", length), ([], refused)),
    ((b"HEAD", b"200", []), (["HeadersReceived"], None)),
):
    found = exchange(*what)
    print(*what[:3], found)
    assert found == wanted, wanted
EOF
"$dir/venv/bin/python" "$dir/test.py"
