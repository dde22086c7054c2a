"""`cargo xtask bench hitratio`: the reference workload through skycached, Varnish and Traffic Server: hits of the same trace, and of
skycached with a carousel that brings the beginnings of popular titles.

A catalogue of 10 TB before an edge of 50 GB, both divided by 373: 6,826 titles of 60 segments of 64 KiB, and 128 MiB of bodies. Titles
are watched by Zipf's law, from their beginning; two thirds of the views end in the first quarter. Twenty players watch at a time. The
first third of the requests fills the cache; hits of the others are counted at the origin, so that each server is measured alike.
With `prefill` the carousel brings ten segments of the 102 most popular titles, half of the cache, at 100 Mbit/s on loopback.

    hitratio.py --skycached FILE --headend FILE --folder DIR [--requests N]
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import pwd
import random
import shutil
import socket
import subprocess
import sys
import time

SEGMENT = 64 << 10
SEGMENTS = 60
TITLES = (10 * 10**12) * (128 << 20) // (50 * 10**9) // (SEGMENTS * SEGMENT)
HELD = (128 << 20) // SEGMENT
PREFIX = 10
CARRIED = HELD // 2 // PREFIX
PLAYERS = 20
# Header pages of skycached's files and workspaces of Varnish are not what is compared.
PAGE = 4096


def body_of(title, segment):
    return (b"\x47" + f"{title} {segment} ".encode()).ljust(64, b"\xff") + bytes((title + segment * 7 + it) % 256 for it in range(256)) * 255 + b"\0" * 192


async def origin(port, counts):
    async def serve(reader, writer):
        # A cache that ends closes its connections; those that are left end with this program.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, target = head.split(" ")[:2]
                name = target.split("/")
                if len(name) != 4 or not name[3].endswith(".ts"):
                    writer.write(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n")
                    continue
                if method == "GET":
                    counts.append(target)
                body = body_of(int(name[2][1:]), int(name[3][:2]))
                says = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nCache-Control: max-age=864000\r\nContent-Type: video/mp2t\r\n\r\n"
                writer.write(says.encode() + (body if method == "GET" else b""))
                await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", port)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def trace(zipf, count):
    """Requests of players who watch at the same time: title and segment."""
    rng = random.Random(7)
    weights, total = [], 0.0
    for rank in range(1, TITLES + 1):
        total += rank ** -zipf
        weights.append(total)
    requests, watching = [], []
    while len(requests) < count:
        while len(watching) < PLAYERS:
            part = rng.random()
            length = part / 0.66 * 15 if part < 0.66 else 15 + (part - 0.66) / 0.34 * 45
            watching.append([rng.choices(range(TITLES), cum_weights=weights)[0], 0, min(int(length), SEGMENTS - 1)])
        for it in list(watching):
            requests.append((it[0], it[1]))
            it[1] += 1
            if it[1] > it[2]:
                watching.remove(it)
    return requests[:count]


async def play(port, requests):
    """All requests in their order, some at a time. Returns errors."""
    todo, errors = iter(requests), 0

    async def work():
        nonlocal errors
        reader = writer = None
        for title, segment in todo:
            if writer is None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            writer.write(f"GET /v/t{title:05}/{segment:02}.ts HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            try:
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                fields = dict(it.lower().split(b": ", 1) for it in head.split(b"\r\n")[1:-2])
                if b"content-length" in fields:
                    body = await reader.readexactly(int(fields[b"content-length"]))
                else:
                    body = b""
                    while size := int((await reader.readline()).split(b";")[0], 16):
                        body += await reader.readexactly(size)
                        await reader.readexactly(2)
                    await reader.readexactly(2)
                errors += body != body_of(title, segment)
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError):
                errors += 1
                writer.transport.abort()
                writer = None
        if writer:
            writer.transport.abort()

    await asyncio.gather(*(work() for _ in range(PLAYERS)))
    return errors


def skycached(options, home, port, origin_port, groups):
    channel = f'announcement = ["{groups[0]}"]\ninterface = "127.0.0.1"' if groups else "announcement = []"
    (home / "skycached.toml").write_text(
        f'[receive]\n{channel}\n[store]\npath = "{home}/cache"\nquota_bytes = {HELD * (SEGMENT + PAGE)}\nreserve_bytes = 0\n'
        f'memory_bytes = 1_048_576\n[http]\nlisten = "127.0.0.1:{port}"\nprefetch_segments = 0\n[admin]\n'
        f'socket = "{home}/admin.sock"\nlisten = []\n[log]\nlevel = "warn"\n[repair]\nenabled = false\n'
        f'[[route]]\npath = "/v/"\nbase = "http://127.0.0.1:{origin_port}/v/"\n')
    return [options.skycached, "run", "-c", str(home / "skycached.toml")], {}


def varnish(options, home, port, origin_port, _):
    (home / "cache.vcl").write_text(
        f'vcl 4.1;\nbackend default {{ .host = "127.0.0.1"; .port = "{origin_port}"; }}\n'
        'sub vcl_backend_response { set beresp.ttl = 10d; }\n')
    return ["varnishd", "-F", "-j", "none", "-n", str(home / "work"), "-f", str(home / "cache.vcl"), "-a", f"127.0.0.1:{port}",
            "-s", f"default,{HELD * (SEGMENT + PAGE)}"], {}


def traffic_server(options, home, port, origin_port, _):
    for name in ("run", "log", "cache"):
        (home / name).mkdir()
    shutil.copytree("/etc/trafficserver", home / "etc")
    places = {"prefix": home, "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin", "sysconfdir": home / "etc",
              "datadir": home / "cache", "includedir": "/usr/include", "libdir": "/usr/lib/trafficserver",
              "libexecdir": "/usr/lib/trafficserver/modules", "localstatedir": home / "run", "runtimedir": home / "run",
              "logdir": home / "log", "cachedir": home / "cache"}
    (home / "runroot.yaml").write_text("".join(f"{name}: {place}\n" for name, place in places.items()))
    (home / "etc/records.config").write_text(
        f"CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1\nCONFIG proxy.config.admin.user_id STRING #-1\n"
        "CONFIG proxy.config.cache.ram_cache.size INT 0\nCONFIG proxy.config.http.cache.required_headers INT 0\n"
        "CONFIG proxy.config.url_remap.remap_required INT 1\nCONFIG proxy.config.log.logging_enabled INT 0\n")
    (home / "etc/remap.config").write_text(f"map / http://127.0.0.1:{origin_port}/\n")
    (home / "etc/storage.config").write_text(f"{home}/cache {HELD * (SEGMENT + PAGE)}\n")
    (home / "etc/plugin.config").write_text("")
    user = pwd.getpwnam("trafficserver")
    for folder, names, files in os.walk(home):
        for it in [folder, *(os.path.join(folder, name) for name in names + files)]:
            os.chown(it, user.pw_uid, user.pw_gid)
    # It does not run as root.
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [*as_user, "traffic_server"], {"TS_RUNROOT": str(home / "runroot.yaml")}


def carousel(options, home, groups, origin_port):
    for title in range(CARRIED):
        folder = home / f"source/t{title:05}"
        folder.mkdir(parents=True)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:4", "#EXT-X-PLAYLIST-TYPE:VOD"]
        for segment in range(PREFIX):
            (folder / f"{segment:02}.ts").write_bytes(body_of(title, segment))
            lines += ["#EXTINF:4.0,", f"{segment:02}.ts"]
        (folder / "index.m3u8").write_text("\n".join([*lines, "#EXT-X-ENDLIST"]) + "\n")
    (home / "headend.toml").write_text(
        f'[link]\nrate_bps = "100 Mbit/s"\n[output]\ninterface = "127.0.0.1"\n[sessions]\nannouncement = "{groups[0]}"\n'
        f'configuration = "{groups[1]}"\nmedia = "{groups[2]}"\n[[source]]\npath = "{home}/source"\n'
        f'base = "http://127.0.0.1:{origin_port}/v/"\n')
    return [options.headend, "send", "-c", str(home / "headend.toml")]


async def measure(options, name, make, zipf, prefill):
    home = pathlib.Path(options.folder) / f"{name}-{zipf}-{prefill}".replace(" ", "-")
    home.mkdir(parents=True)
    counts, port, origin_port = [], free_port(), free_port()
    groups = [f"239.255.77.{90 + at}:{free_port()}" for at in range(3)] if prefill else None
    server = await origin(origin_port, counts)
    command, env = make(options, home, port, origin_port, groups)
    log = open(home / "stderr", "ab")
    processes = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **env})]
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            await asyncio.sleep(0.1)
        else:
            raise SystemExit(f"{name} does not come up: {(home / 'stderr').read_text()[-2000:]}")
        if prefill:
            processes.append(subprocess.Popen(carousel(options, home, groups, origin_port), stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            # Two cycles of it.
            await asyncio.sleep(2 * CARRIED * PREFIX * SEGMENT * 8 / 100e6 + 3)
        requests = trace(zipf, options.requests)
        filling = len(requests) // 3
        begun = time.monotonic()
        errors = await play(port, requests[:filling])
        cold = filling - len(counts)
        before = len(counts)
        errors += await play(port, requests[filling:])
        hits = 1 - (len(counts) - before) / (len(requests) - filling)
        return hits * 100, cold * 100 / filling, errors, time.monotonic() - begun
    finally:
        for it in reversed(processes):
            it.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                it.wait(10)
            it.kill()
            it.wait()
        server.close()
        shutil.rmtree(home, ignore_errors=True)


async def main():
    parser = argparse.ArgumentParser()
    for name in ("skycached", "headend", "folder"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--requests", type=int, default=45_000)
    options = parser.parse_args()
    print(f"{TITLES} titles of {SEGMENTS} segments; the cache holds {HELD}; {options.requests} requests, the first third to fill it")
    print(f"{'':<34}{'Zipf 0.8':>22}{'Zipf 1.0':>22}")
    print(f"{'hits, % of requests':<34}" + f"{'while filling':>14}{'after':>8}" * 2)
    is_good = True
    for name, make, prefill in [("skycached", skycached, False), ("skycached, prefill by a carousel", skycached, True),
                                ("Varnish", varnish, False), ("Traffic Server", traffic_server, False)]:
        cells = ""
        for zipf in (0.8, 1.0):
            hits, cold, errors, _ = await measure(options, name, make, zipf, prefill)
            cells += f"{cold:>14.1f}{hits:>8.1f}"
            is_good &= errors == 0
            if errors:
                cells += f" ({errors} errors)"
        print(f"{name:<34}{cells}", flush=True)
    return is_good


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
