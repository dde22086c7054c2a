#!/bin/sh
# parse-prometheus-text-format gives one histogram for all label sets of a name, without the labels, and with the values of the last.
#
# Prometheus' text format 0.0.4: the lines of a histogram or summary that differ in other labels than le and quantile are of different
# series. Of wait_seconds with route="film" (count 7) and route="live" (count 9):
#        parse-prometheus-text-format 1.1.1 (npm)    one metric, buckets of the last, no labels, no count, no sum
#        prometheus_client 0.26.0 (PyPI)             all lines with their labels
# One would expect two metrics, as it gives for a counter with the same labels. With one label set and no labels it is right, which is
# what its own examples have; with labels count and sum are gone even if there is one set. Nothing is raised.
#
# Small dashboards and tests of exporters in Node are built on it. Who asks it for the waiting time of one route or interface reads that of
# another; for histograms read the text by lines, or let Prometheus itself do it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" parse-prometheus-text-format@1.1.1
python3 -m venv venv
venv/bin/pip install -q prometheus_client==0.26.0
{
    printf '# TYPE wait_seconds histogram\n'
    for set in film:5:7 live:3:9; do
        labels="route=\"${set%%:*}\"" rest=${set#*:}
        printf 'wait_seconds_bucket{%s,le="1"} %s\nwait_seconds_bucket{%s,le="+Inf"} %s\n' "$labels" "${rest%:*}" "$labels" "${rest#*:}"
        printf 'wait_seconds_sum{%s} 4.5\nwait_seconds_count{%s} %s\n' "$labels" "$labels" "${rest#*:}"
    done
    printf '# TYPE answers_total counter\nanswers_total{route="film"} 7\nanswers_total{route="live"} 9\n'
} >metrics
cat metrics
cat >test.cjs <<'END'
const assert = require("assert");
const module_ = require("parse-prometheus-text-format");
const parse = module_.default ?? module_;
const text = require("fs").readFileSync("metrics", "utf8");
const [histogram, counter] = parse(text);
console.log(JSON.stringify(histogram.metrics), JSON.stringify(counter.metrics));
assert.deepEqual(histogram.metrics, [{ buckets: { 1: "3", "+Inf": "9" } }]);
assert.deepEqual(counter.metrics, [
  { value: "7", labels: { route: "film" } },
  { value: "9", labels: { route: "live" } },
]);
const plain = parse('# TYPE a histogram\na_bucket{le="1"} 1\na_bucket{le="+Inf"} 2\na_sum 3\na_count 2\n');
assert.deepEqual(plain[0].metrics, [{ buckets: { 1: "1", "+Inf": "2" }, count: "2", sum: "3" }]);
END
node test.cjs
venv/bin/python -c '
from prometheus_client.parser import text_string_to_metric_families as parse
histogram = next(iter(parse(open("metrics").read())))
counts = {it.labels["route"]: it.value for it in histogram.samples if it.name.endswith("_count")}
print(counts)
assert counts == {"film": 7, "live": 9} and len(histogram.samples) == 8'
