#!/bin/sh
# Readers of MaxMind DB files find nothing for ::ffff:192.0.2.1, the address that a dual-stack socket gives for an IPv4 client.
#
# RFC 4291 section 2.5.5.2: ::ffff:0:0/96 are the IPv4 addresses as an IPv6 socket sees them; every server that listens on [::] gets its
# IPv4 clients so. The MaxMind DB format keeps IPv4 at ::/96, and one would expect readers to know both. Whether the mapped form is
# found is left to who wrote the file; of a file with 192.0.2.0/24 by the common writer for Python:
#                                maxminddb (Python)    maxmind (Node)    @maxmind/geoip2-node
#        192.0.2.1               found                 found             found
#        ::192.0.2.1             found                 found             found
#        ::ffff:192.0.2.1        None                  null              "not in the database"
# Seen with mmdb-writer 0.2.7, maxminddb 3.2.0 (PyPI), maxmind 5.0.7 and @maxmind/geoip2-node 7.1.0 (npm); the Rust crate maxminddb 0.32.0
# does as they do.
#
# Rules by country let everybody through or nobody, and statistics say "unknown", for all of IPv4 and without an error, as soon as the
# listener changes from 0.0.0.0 to [::]. Addresses have to be brought to their IPv4 form before any look-up.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" maxmind@5.0.7 @maxmind/geoip2-node@7.1.0
python3 -m venv venv
venv/bin/pip install -q mmdb-writer==0.2.7 maxminddb==3.2.0 netaddr
cat >test.py <<'EOF'
import maxminddb
from mmdb_writer import MMDBWriter
from netaddr import IPSet

writer = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-Country", languages=["en"], description="test")
writer.insert_network(IPSet(["192.0.2.0/24"]), {"country": {"iso_code": "DE"}})
writer.to_db_file("test.mmdb")
with maxminddb.open_database("test.mmdb") as reader:
    for address, found in {"192.0.2.1": True, "::192.0.2.1": True, "::ffff:192.0.2.1": False}.items():
        print("maxminddb:", address, reader.get(address))
        assert (reader.get(address) is not None) == found
EOF
venv/bin/python test.py
cat >test.mjs <<'EOF'
import assert from "node:assert";
import net from "node:net";
import { open } from "maxmind";
import { Reader } from "@maxmind/geoip2-node";
// What a server on [::] is told about a client of IPv4.
const server = net.createServer().listen(0, "::");
const address = await new Promise((resolve) => {
  server.on("connection", (socket) => resolve(socket.remoteAddress));
  server.on("listening", () => net.connect(server.address().port, "127.0.0.1"));
});
console.log("seen by a server on [::]:", address);
assert.equal(address, "::ffff:127.0.0.1");
const [byMaxmind, byGeoip] = [await open("test.mmdb"), await Reader.open("test.mmdb")];
const country = (address) => {
  try {
    return byGeoip.country(address).country.isoCode;
  } catch (error) {
    return error.name;
  }
};
const found = ["192.0.2.1", "::192.0.2.1", "::ffff:192.0.2.1"].map((address) => [byMaxmind.get(address)?.country.iso_code ?? null, country(address)]);
console.log("maxmind, geoip2-node:", found);
assert.deepEqual(found, [["DE", "DE"], ["DE", "DE"], [null, "AddressNotFoundError"]]);
process.exit(0);
EOF
node test.mjs
