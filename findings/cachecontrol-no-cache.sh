#!/bin/sh
# The Python library CacheControl serves what says "no-cache, max-age=60" for a minute without asking.
#
# RFC 9111 section 5.2.2.4: a response with no-cache may be stored, but must not be used again without a successful validation, whatever
# its lifetime. CacheControl knows no-cache in requests only:
#        no-cache, ETag                        asked anew (it has no lifetime)
#        no-cache, Expires in one minute       served from the cache
#        no-cache, max-age=60                  served from the cache
#        no-store, max-age=60                  asked anew
# Seen with CacheControl 0.14.4 (PyPI), the cache of pip.
#
# "no-cache" beside a lifetime is what origins send whose lifetime is a default of the server and whose no-cache was set for the playlist or
# the guide: nginx does it with "expires" and "add_header". A headend script that follows such a playlist sees it stand still, and
# ETag or digest cannot tell, since nothing is asked.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q CacheControl==0.14.4
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
        self.send_header("ETag", '"%d"' % len(asked))
        self.send_header("Cache-Control", control.removesuffix(" Expires"))
        if control.endswith(" Expires"):
            self.send_header("Expires", email.utils.formatdate(time.time() + 60, usegmt=True))
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")


origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
threading.Thread(target=origin.serve_forever, daemon=True).start()
session = CacheControl(requests.Session())
controls = ["no-cache", "no-cache Expires", "no-cache, max-age=60", "no-store, max-age=60"]
for control in controls * 2:
    session.get(f"http://127.0.0.1:{origin.server_port}/{urllib.parse.quote(control)}")
found = {control: asked.count(control) for control in controls}
print("requests to the origin:", found)
assert list(found.values()) == [2, 1, 1, 2], found
END
venv/bin/python test.py
