#!/bin/sh
# zchunk's downloader cannot fetch a delta from Flask, aiohttp, Falcon or Hono: they answer two ranges with 416, 400 or all of the file as one range.
#
# RFC 9110 section 14.2: 416 is for ranges of which none is in the file, and a server that does not want several may ignore the field and send 200.
# zckdl asks for all missing chunks in one request. It takes several answers, and goes down to one range by itself when it gets 200:
#        Starlette 1.10.0                         206, multipart/byteranges        new file, the missing bytes alone
#        Express 5.3.0                            200                              new file, by single ranges after two tries
#        sirv 3.0.2                               206 with the first range         new file, by one range after the other
#        Werkzeug 3.1.9 (Flask), aiohttp 3.14.5   416                              error, no single range is tried
#        Falcon 4.4.0                             400                              error
#        Hono 4.13.19 (@hono/node-server 2.1.9)   206, bytes 0-400508/400509       error, "checksum: FAILED"
# One would expect 200 from a server that knows one range only, and from a client with such a fallback the same for 416. What is left on the disk has
# the length of the new file. Seen with zchunk 1.2.3 (Debian 12) and those packages of PyPI and npm.
#
# An update service that is a small program of one's own works with curl, with a browser and by single ranges, and fails for deltas alone. A repair or an
# update that asks for several ranges has to go on with single ones after any answer but 206, and to read Content-Range of each.
set -eu
dir=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || :; rm -rf "$dir"' EXIT
cd "$dir"
mkdir -p lists/partial cache/archives/partial root files
apt="-qq -o Dir::Cache=$dir/cache -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
fetch() { apt-get $apt -y --download-only --no-install-recommends --reinstall install zchunk libzck1 >apt.log 2>&1; }
fetch || { apt="$apt -o Dir::State::Lists=$dir/lists" && apt-get $apt update && fetch; }
for package in cache/archives/*.deb; do dpkg -x "$package" root; done
export PATH="$dir/root/usr/bin:$PATH" LD_LIBRARY_PATH="$dir/root/usr/lib/$(uname -m)-linux-gnu"
zckdl --version | head -n 1
python3 -m venv venv
venv/bin/pip install -q starlette==1.10.0 uvicorn==0.54.0 flask==3.1.3 werkzeug==3.1.9 aiohttp==3.14.5 falcon==4.4.0
npm install --silent --no-audit --no-fund --prefix "$dir" express@5.3.0 sirv@3.0.2 hono@4.13.19 @hono/node-server@2.1.9
cat >servers.py <<'EOF'
import logging, sys

name, port, root = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name == "starlette":
    import uvicorn
    from starlette.staticfiles import StaticFiles

    uvicorn.run(StaticFiles(directory=root), port=port, log_level="error")
elif name == "flask":
    import flask

    logging.getLogger("werkzeug").disabled = True
    flask.cli.show_server_banner = lambda *_: None
    app = flask.Flask("files")
    app.add_url_rule("/<path:file>", view_func=lambda file: flask.send_from_directory(root, file))
    app.run(port=port)
elif name == "aiohttp":
    from aiohttp import web

    app = web.Application()
    app.router.add_static("/", root)
    web.run_app(app, host="127.0.0.1", port=port, print=None)
elif name == "falcon":
    from wsgiref.simple_server import WSGIRequestHandler, make_server

    import falcon

    WSGIRequestHandler.log_message = lambda *_: None
    app = falcon.App()
    app.add_static_route("/", root)
    make_server("127.0.0.1", port, app).serve_forever()
EOF
cat >servers.cjs <<'EOF'
const http = require("http");
const [name, port, root] = process.argv.slice(2);
const servers = {
  express: () => {
    const express = require("express");
    http.createServer(express().use(express.static(root))).listen(port, "127.0.0.1");
  },
  sirv: () => http.createServer(require("sirv")(root)).listen(port, "127.0.0.1"),
  hono: () => {
    const { Hono } = require("hono");
    const { serve } = require("@hono/node-server");
    const { serveStatic } = require("@hono/node-server/serve-static");
    process.chdir(root);
    const app = new Hono();
    app.use("/*", serveStatic({ root: "./" }));
    serve({ fetch: app.fetch, port: Number(port), hostname: "127.0.0.1" });
  },
};
servers[name]();
EOF
cat >files.py <<'EOF'
import pathlib, random

old = bytearray(random.Random(1).randbytes(400000))
pathlib.Path("old").write_bytes(old)
for place in range(5000, 400000, 100000):
    old[place : place + 10] = b"0123456789"
pathlib.Path("new").write_bytes(old)
EOF
python3 files.py
zck old -o old.zck
zck new -o files/new.zck
ask() {
  python3 - "$1" "$2" <<'EOF'
import http.client, socket, sys, time

port = int(sys.argv[1])
for _ in range(100):
    time.sleep(0.1)
    try:
        socket.create_connection(("127.0.0.1", port)).close()
        break
    except OSError:
        pass
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
connection.request("GET", "/new.zck", headers={"Range": sys.argv[2]})
answer = connection.getresponse()
answer.read()
print(answer.status, answer.headers["Content-Range"] or answer.headers["Content-Type"].split(";")[0])
EOF
}
# check NAME ANSWER EXIT
check() {
  port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  case $1 in
  starlette | flask | aiohttp | falcon) venv/bin/python servers.py "$1" "$port" "$dir/files" >server.log 2>&1 & ;;
  *) node servers.cjs "$1" "$port" "$dir/files" >server.log 2>&1 & ;;
  esac
  server=$!
  answer=$(ask "$port" "bytes=0-9,1000-1009")
  case $answer in "200 "*) answer=200 ;; esac
  single=$(ask "$port" "bytes=1000-1009")
  rm -f new.zck
  code=0
  timeout 60 zckdl -s old.zck "http://127.0.0.1:$port/new.zck" >zck.log 2>&1 || code=$?
  kill "$server"
  wait "$server" 2>/dev/null || :
  server=
  echo "$1: one range: $single; two: $answer; zckdl: exit code $code $(grep -E 'Error|FAILED' zck.log | head -n 1)"
  [ "$answer" = "$2" ] && [ "$code" -eq "$3" ]
  if [ "$3" -eq 0 ]; then cmp new.zck files/new.zck; else [ "$(wc -c <new.zck)" -eq "$(wc -c <files/new.zck)" ] && ! cmp -s new.zck files/new.zck; fi
}
total=$(wc -c <files/new.zck)
check starlette "206 multipart/byteranges" 0
check express 200 0
check sirv "206 bytes 0-9/$total" 0
check flask "416 bytes */$total" 1
check aiohttp "416 bytes */$total" 1
check falcon "400 application/json" 1
check hono "206 bytes 0-$((total - 1))/$total" 1
