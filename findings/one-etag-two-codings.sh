#!/bin/sh
# Starlette (FastAPI) with its GZipMiddleware, and WhiteNoise, give a file and its gzip the same strong ETag, so that a download which began
# in gzip is continued with bytes of the other.
#
# RFC 9110 section 8.8.3.3: the entity tags of a resource with and without a content coding have to differ, if they are strong: they say that
# bytes are the same. GZipMiddleware encodes what passes and leaves the ETag; its own rule lets ranges through without a coding. A client
# that takes gzip has the first 60 bytes of a playlist when the connection breaks, and continues them as it should:
#        GET, Accept-Encoding: gzip                            200, Content-Encoding: gzip, ETag "a891..."
#        Range: bytes=60-, If-Range: "a891...", also gzip      206, no Content-Encoding, ETag "a891...", Content-Range: bytes 60-3815/3816
# One would expect a weak ETag or another one for gzip (nginx, httpd, hapi), for which If-Range gives 200. WhiteNoise answers the second
# from the gzip file; there the tag is the same for a client that takes no gzip. Seen with Starlette 1.10.0 and WhiteNoise 6.12.0.
#
# No validator shows the change: what is joined has the right ETag and is neither gzip nor text. A client that continues a body has to compare
# Content-Encoding, too; a cache must select by Vary before it compares ETags; an origin for both should not code what is asked for in parts.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q starlette==1.10.0 uvicorn whitenoise==6.12.0
cat >test.py <<'END'
import gzip, http.client, os, threading, time, wsgiref.simple_server

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from whitenoise import WhiteNoise

os.mkdir("www")
text = b"#EXTM3U\n" + b"".join(b"#EXTINF:2,\nsegment-%05d.ts\n" % number for number in range(136))
with open("www/a.m3u8", "wb") as file:
    file.write(text)


def get(port, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/a.m3u8", headers={name.replace("_", "-"): value for name, value in fields.items()})
    answer = connection.getresponse()
    body = answer.read()
    print(fields, "->", answer.status, answer.headers["Content-Encoding"], answer.headers["ETag"], answer.headers["Content-Range"])
    return answer.status, answer.headers, body


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


app = Starlette(routes=[Mount("/", StaticFiles(directory="www"))], middleware=[Middleware(GZipMiddleware)])
starlette = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
threading.Thread(target=starlette.run, daemon=True).start()
while not starlette.started:
    time.sleep(0.05)
port = starlette.servers[0].sockets[0].getsockname()[1]
_, plain, body = get(port)
assert body == text and plain["ETag"].startswith('"')
_, coded, first = get(port, Accept_Encoding="gzip")
assert coded["Content-Encoding"] == "gzip" and coded["ETag"] == plain["ETag"]
status, rest, body = get(port, Accept_Encoding="gzip", Range="bytes=60-", If_Range=coded["ETag"])
assert (status, rest["Content-Encoding"], rest["ETag"], body) == (206, None, coded["ETag"], text[60:])
try:
    gzip.decompress(first[:60] + body)
    raise SystemExit("the joined bytes are gzip")
except (OSError, EOFError, ValueError, __import__("zlib").error):
    pass

with open("www/a.m3u8.gz", "wb") as file:
    file.write(gzip.compress(text))
missing = lambda environ, start: (start("404 Not Found", []), [b""])[1]
server = wsgiref.simple_server.make_server("127.0.0.1", 0, WhiteNoise(missing, root="www"), handler_class=Quiet)
threading.Thread(target=server.serve_forever, daemon=True).start()
_, plain, body = get(server.server_port)
_, coded, zipped = get(server.server_port, Accept_Encoding="gzip")
assert body == text and coded["Content-Encoding"] == "gzip" and zipped != text
assert plain["ETag"] == coded["ETag"] and plain["ETag"].startswith('"')
os._exit(0)
END
venv/bin/python -u test.py
