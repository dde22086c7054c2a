#!/bin/sh
# koa-static, as it is by default, and http-server --gzip send a.m3u8.gz for a.m3u8 without Vary: a cache gives gzip to players that cannot read it.
#
# RFC 9110 section 12.5.5: an origin sends Vary where the request's Accept-Encoding has chosen the response. Of a playlist with a file of
# the same name and ".gz" beside it:
#        Accept-Encoding: gzip       200, Content-Encoding: gzip, no Vary
#        none                        200, the text, no Vary
#        nginx 1.22.1 with proxy_cache in front, a client with gzip first: the client without gets gzip
# One would expect Vary: Accept-Encoding in both, as sirv, WhiteNoise, Express and @fastify/static send it. koa-static looks for ".gz" without being
# told to. Seen with koa-static 5.0.0 on koa 3.3.0, and http-server 14.1.1.
#
# The first player to ask decides what all get. A cache in front of any origin should ask with Accept-Encoding: identity, or take
# Content-Encoding without Vary as if Vary were there.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" koa@3.3.0 koa-static@5.0.0 http-server@14.1.1
mkdir www
printf '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\ns1.ts\n#EXT-X-ENDLIST\n' >www/a.m3u8
gzip -k www/a.m3u8
cat >origin.cjs <<'END'
const Koa = require("koa");
if (process.argv[2] === "koa") {
  const app = new Koa();
  app.use(require("koa-static")("www"));
  app.listen(+process.argv[3], "127.0.0.1");
} else require("http-server").createServer({ root: "www", gzip: true, cache: 60 }).listen(+process.argv[3], "127.0.0.1");
END
cat >test.py <<'END'
import atexit, http.client, os, shutil, socket, subprocess, sys, time


def free():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def get(port, **fields):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/a.m3u8", headers=fields)
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Encoding"], answer.headers["Vary"], answer.read()[:7]


def start(port, *command):
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    atexit.register(lambda: process.terminate() or process.wait())
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)


gzip = {"Accept-Encoding": "gzip"}
text, coded = (200, None, None, b"#EXTM3U"), (200, "gzip", None)
for kind in ("koa", "http-server"):
    origin = free()
    start(origin, "node", "origin.cjs", kind, str(origin))
    print(kind, get(origin), get(origin, **gzip))
    assert get(origin) == text
    assert get(origin, **gzip)[:3] == coded
if not shutil.which("nginx"):
    sys.exit("nginx is needed for the last step")
cache = free()
with open("nginx.conf", "w") as file:
    file.write(f"""{"user root;" if os.getuid() == 0 else ""} daemon off; pid {os.getcwd()}/pid; error_log /dev/null; events {{}}
http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  proxy_cache_path {os.getcwd()}/cache keys_zone=z:1m;
  server {{ listen 127.0.0.1:{cache}; location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache z; proxy_cache_valid 200 1m; }} }} }}""")
start(cache, "nginx", "-p", os.getcwd(), "-c", f"{os.getcwd()}/nginx.conf", "-e", "/dev/null")
assert get(cache, **gzip)[:3] == coded
print("nginx, no Accept-Encoding:", get(cache))
assert get(cache)[:3] == coded
END
python3 test.py
