#!/bin/sh
# Twelve static file servers of Python and Node ignore If-Range: a continued download gets the rest of another version.
#
# RFC 9110 section 13.1.5: where the validator in If-Range is not that of the file, Range is ignored, and all of the file is sent with 200.
# A file of 31 bytes, asked for with Range: bytes=4-8 and
#                                                    If-Range: "other"     If-Range: an earlier date
#        Tornado 6.6.1, Falcon 4.4.0, Bottle 0.13.4,
#        WhiteNoise 6.12.0 (with Django's files)       206, bytes 4 to 8    206, bytes 4 to 8
#        Twisted 26.10.0, CherryPy 18.10.0,
#        Sanic 25.12.1, Hono 4.13.19 (no ETag)         206                  206
#        sirv 3.0.2 (Vite, SvelteKit), serve-handler
#        6.1.8 (`serve`), http-server 14.1.1           206                  206
#        aiohttp 3.14.5                                206                  200: it reads dates alone
#        Werkzeug 3.1.9 (Flask), Starlette 1.10.0
#        (FastAPI)                                     200                  200
# One would expect what nginx, httpd and Express do (200), the more so from servers that answer 304 to the same ETag in If-None-Match.
#
# Scripts and test origins use these servers. A client that continues a body has to compare ETag, Last-Modified and complete length of the
# 206 with those of the bytes it holds, even if it sent If-Range; a 206 without validators cannot continue anything.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q aiohttp==3.14.5 tornado==6.6.1 twisted==26.10.0 falcon==4.4.0 bottle==0.13.4 whitenoise==6.12.0 CherryPy==18.10.0 \
    sanic==25.12.1 Werkzeug==3.1.9 starlette==1.10.0 uvicorn
npm install --silent --no-audit --no-fund --prefix "$dir" sirv@3.0.2 serve-handler@6.1.8 http-server@14.1.1 @hono/node-server@2.1.9 hono@4.13.19
mkdir www
printf 'new bytes of the second version' >www/f.mp4
cat >server.py <<'END'
import os, sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

kind, port, folder = sys.argv[1], int(sys.argv[2]), os.path.abspath("www")


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def wsgi(app):
    make_server("127.0.0.1", port, app, handler_class=Quiet).serve_forever()


if kind == "aiohttp":
    from aiohttp import web

    app = web.Application()
    app.router.add_static("/", folder)
    web.run_app(app, host="127.0.0.1", port=port, print=None)
if kind == "tornado":
    import tornado.ioloop, tornado.web

    handler = (r"/(.*)", tornado.web.StaticFileHandler, {"path": folder})
    tornado.web.Application([handler]).listen(port, "127.0.0.1")
    tornado.ioloop.IOLoop.current().start()
if kind == "twisted":
    from twisted.internet import reactor
    from twisted.web import server, static

    reactor.listenTCP(port, server.Site(static.File(folder)), interface="127.0.0.1")
    reactor.run()
if kind == "falcon":
    import falcon

    app = falcon.App()
    app.add_static_route("/", folder)
    wsgi(app)
if kind == "bottle":
    import bottle

    app = bottle.Bottle()
    app.route("/<path:path>", callback=lambda path: bottle.static_file(path, root=folder))
    wsgi(app)
if kind == "whitenoise":
    from whitenoise import WhiteNoise

    wsgi(WhiteNoise(lambda environ, start: (start("404 Not Found", []), [b""])[1], root=folder))
if kind == "cherrypy":
    import cherrypy

    cherrypy.config.update({"server.socket_host": "127.0.0.1", "server.socket_port": port, "log.screen": False, "engine.autoreload.on": False})
    cherrypy.quickstart(None, "/", {"/": {"tools.staticdir.on": True, "tools.staticdir.dir": folder}})
if kind == "sanic":
    from sanic import Sanic

    app = Sanic("files")
    app.static("/", folder, use_content_range=True)
    app.run(host="127.0.0.1", port=port, single_process=True, access_log=False, motd=False)
if kind == "werkzeug":
    from werkzeug.utils import send_from_directory

    wsgi(lambda environ, start: send_from_directory(folder, environ["PATH_INFO"][1:], environ)(environ, start))
if kind == "starlette":
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
END
cat >server.cjs <<'END'
const [kind, port] = process.argv.slice(2);
const http = require("http");
const listen = (handler) => http.createServer(handler).listen(port, "127.0.0.1");
if (kind === "sirv") listen(require("sirv")("www", { etag: true }));
if (kind === "serve-handler") listen((request, response) => require("serve-handler")(request, response, { public: "www", etag: true }));
if (kind === "http-server") require("http-server").createServer({ root: "www" }).listen(port, "127.0.0.1");
if (kind === "hono") {
  const { serve } = require("@hono/node-server");
  const { serveStatic } = require("@hono/node-server/serve-static");
  const { Hono } = require("hono");
  const app = new Hono();
  app.use("*", serveStatic({ root: "./www" }));
  serve({ fetch: app.fetch, port: +port, hostname: "127.0.0.1" });
}
END
cat >test.py <<'END'
import http.client, socket, subprocess, sys, time

IGNORES = (206, 206)
EXPECTED = {
    "aiohttp": (206, 200), "tornado": IGNORES, "twisted": IGNORES, "falcon": IGNORES, "bottle": IGNORES, "whitenoise": IGNORES,
    "cherrypy": IGNORES, "sanic": IGNORES, "werkzeug": (200, 200), "starlette": (200, 200),
    "sirv": IGNORES, "serve-handler": IGNORES, "http-server": IGNORES, "hono": IGNORES,
}
NODE = ("sirv", "serve-handler", "http-server", "hono")
is_right = True
for kind, expected in EXPECTED.items():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["node", "server.cjs"] if kind in NODE else ["venv/bin/python", "server.py"]
    server = subprocess.Popen(command + [kind, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)

    def ask(fields):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/f.mp4", headers=fields)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, body

    found = []
    for validator in ('"other"', "Mon, 01 Jan 2024 00:00:00 GMT"):
        status, body = ask({"Range": "bytes=4-8", "If-Range": validator})
        assert status != 206 or body == b"bytes", body
        found.append(status)
    server.terminate()
    server.wait()
    print(kind, *found)
    is_right &= tuple(found) == expected
sys.exit(0 if is_right else 1)
END
python3 test.py
