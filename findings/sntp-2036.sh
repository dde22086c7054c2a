#!/bin/sh
# ntplib and ntp-time-sync read the time of a server after 7 February 2036 as January 1900, also on a machine whose clock is right.
#
# RFC 4330 section 3 and RFC 5905 section 6: the 32 bits of seconds begin again in 2036; a client takes the era that is nearest to its own
# clock, or at least reads a first bit of 0 as the time after 2036. Of a server that says 1 March 2036:
#        ntplib 0.4.0 (PyPI)            tx_time -2207024896, the 23rd of January 1900; offset from its clock -4003055644 s
#        ntp-time-sync 0.5.0 (npm)      transmitTimestamp 1900-01-23T17:31:44Z
# One would expect 2036-03-01, as the RFC of 2006 has it. stratum, mode and leap indicator are right, nothing is raised.
#
# A box of today has to work then, and one without a battery takes what the first answer says: certificates are not valid yet, and every
# expiry is in the future. What reads NTP's seconds (EXT_TIME of LCT and Expires of an FDT have the same) needs a date near which they are.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q ntplib==0.4.0
npm install --silent --no-audit --no-fund --prefix "$dir" ntp-time-sync@0.5.0
cat >client.cjs <<'END'
const { NtpTimeSync } = require("ntp-time-sync");
const port = +process.argv[2];
const client = new NtpTimeSync({ servers: [`127.0.0.1:${port}`], sampleCount: 1, replyTimeout: 5000 });
client.getNetworkTime("127.0.0.1", port).then((answer) => {
  process.stdout.write(answer.transmitTimestamp.toISOString());
  process.exit();
});
END
cat >test.py <<'END'
import datetime, socket, struct, subprocess, threading

import ntplib

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))
port = server.getsockname()[1]
said = None


def serve():
    while True:
        question, client = server.recvfrom(100)
        now = struct.pack(">II", int(said.timestamp() + ntplib.NTP.NTP_DELTA) % 2**32, 0)
        head = struct.pack(">BBbbII4s", 0x24, 1, 0, -20, 0, 0, b"GPS\0")
        server.sendto(head + now + question[40:48] + now + now, client)


threading.Thread(target=serve, daemon=True).start()


def read():
    answer = ntplib.NTPClient().request("127.0.0.1", port=port, version=4)
    python = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=answer.tx_time)
    node = subprocess.run(["node", "client.cjs", str(port)], capture_output=True, text=True, timeout=30).stdout
    print(said, "-> ntplib", python, "ntp-time-sync", node)
    return str(python.date()), node[:10]


said = datetime.datetime(2036, 2, 1, tzinfo=datetime.timezone.utc)
assert read() == ("2036-02-01", "2036-02-01")
said = datetime.datetime(2036, 3, 1, tzinfo=datetime.timezone.utc)
assert read() == ("1900-01-23", "1900-01-23")
END
venv/bin/python test.py
