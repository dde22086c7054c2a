#!/bin/sh
# http-cache-semantics and CacheControl obey Cache-Control only in small letters: "No-Store" and "Max-Age=0" are served from the cache.
#
# RFC 9111 section 5.2: directives are compared without regard to case. Both libraries compare them as they are, so that a response with
# capitals is one without directives, and what else it says counts:
#        No-Store, Expires in 1 minute      stored, fresh for a minute
#        Max-Age=0, Expires in 1 minute     fresh for a minute
#        MAX-AGE=60                         asked anew
# Seen with http-cache-semantics 4.3.0 (npm; got, cacheable-request and make-fetch-happen are built on it) and CacheControl 0.14.4
# (PyPI; pip is). In small letters both obey.
#
# Encoders with a web server of their own and old servlets write "No-Store" and "No-Cache". A script in Node or Python that follows
# their live playlist through such a cache sees it stand still for the lifetime of Expires. What a box or a headend writes itself
# should be in small letters.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" http-cache-semantics@4.3.0
python3 -m venv venv
venv/bin/pip install -q CacheControl==0.14.4
cat >test.cjs <<'END'
const CachePolicy = require("http-cache-semantics");
const expires = new Date(Date.now() + 60000).toUTCString();
const request = { method: "GET", url: "/live.m3u8", headers: { host: "encoder.example" } };
const seconds = (control, more) => {
  const headers = { date: new Date().toUTCString(), "cache-control": control, ...more };
  const policy = new CachePolicy(request, { status: 200, headers });
  const fresh = policy.storable() && policy.satisfiesWithoutRevalidation(request);
  console.log("http-cache-semantics", control, more, fresh ? "fresh" : "asked anew");
  return fresh;
};
const found = ["No-Store", "Max-Age=0", "no-store", "max-age=0"].map((control) => seconds(control, { expires }));
found.push(seconds("MAX-AGE=60", {}), seconds("max-age=60", {}));
process.exit(JSON.stringify(found) === "[true,true,false,false,false,true]" ? 0 : 1);
END
node test.cjs
cat >test.py <<'END'
import email.utils, http.server, threading, time, urllib.parse
import requests
from cachecontrol import CacheControl

asked = []


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        control = urllib.parse.unquote(self.path[1:])
        asked.append(control)
        self.send_response(200)
        self.send_header("Cache-Control", control)
        if "60" not in control:
            self.send_header("Expires", email.utils.formatdate(time.time() + 60, usegmt=True))
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
session = CacheControl(requests.Session())
controls = ["No-Store", "Max-Age=0", "no-store", "max-age=0", "MAX-AGE=60", "max-age=60"]
for control in controls * 2:
    session.get(f"http://127.0.0.1:{origin.server_port}/{urllib.parse.quote(control)}")
found = [asked.count(control) for control in controls]
print("CacheControl", dict(zip(controls, found)))
assert found == [1, 1, 2, 2, 2, 1], found
END
venv/bin/python test.py
