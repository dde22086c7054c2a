#!/bin/sh
# Four client caches forget how old a response was at the shield: "max-age=60" with "Age: 120" is fresh for another minute.
#
# RFC 9111 section 4.2.3: the Age that a response came with counts towards its age. One would expect every library that cites the RFC to
# add it up, as undici and http-cache-semantics do:
#        max-age=60, Age: 120, asked twice                    requests to the origin
#        hishel 2.0.0 (rfc=True), requests-cache 1.3.3,
#        CacheControl 0.14.4, make-fetch-happen 15.0.6        1
#        undici 7.30.2                                        2
# hishel also sends "Age: 0" with what was two minutes old; make-fetch-happen is built on http-cache-semantics but does not keep the field.
# Seen with those packages of PyPI and npm.
#
# Behind a CDN or a box such a client adds its own lifetime to that of each cache before it: two caches of six seconds make a live
# playlist of twelve. What must not be old has to be sent with a lifetime that is shortened by its age, not with Age.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" make-fetch-happen@15.0.6 undici@7.30.2
python3 -m venv venv
venv/bin/pip install -q "hishel[httpx]==2.0.0" CacheControl==0.14.4 requests-cache==1.3.3
cat >test.mjs <<'END'
import fetch from "make-fetch-happen";
import { Agent, interceptors, request } from "undici";
const [origin] = process.argv.slice(2);
const dispatcher = new Agent().compose(interceptors.cache());
for (let time = 0; time < 2; time++) {
  await (await fetch(origin + "/make-fetch-happen", { cachePath: "stored" })).text();
  await (await request(origin + "/undici", { dispatcher })).body.text();
}
END
cat >test.py <<'END'
import http.server, subprocess, threading
import cachecontrol, hishel.httpx, requests, requests_cache

asked = []


class Shield(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        asked.append(self.path[1:])
        self.send_response(200)
        self.send_header("Cache-Control", "max-age=60")
        self.send_header("Age", "120")
        self.send_header("Content-Length", "1")
        self.end_headers()
        self.wfile.write(b"x")


shield = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shield)
threading.Thread(target=shield.serve_forever, daemon=True).start()
origin = f"http://127.0.0.1:{shield.server_port}"
clients = {
    "hishel": hishel.httpx.CacheClient(rfc=True),
    "CacheControl": cachecontrol.CacheControl(requests.Session()),
    "requests-cache": requests_cache.CachedSession(backend="memory", cache_control=True),
}
for name, client in clients.items():
    for _ in range(2):
        answer = client.get(f"{origin}/{name}")
    print(name, "Age of the second answer:", answer.headers.get("Age"))
subprocess.run(["node", "test.mjs", origin], check=True)
found = {name: asked.count(name) for name in [*clients, "make-fetch-happen", "undici"]}
print(found)
assert found == {"hishel": 1, "CacheControl": 1, "requests-cache": 1, "make-fetch-happen": 1, "undici": 2}, found
END
venv/bin/python test.py
