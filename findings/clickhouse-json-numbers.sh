#!/bin/sh
# ClickHouse takes milliseconds in DateTime64(3) for seconds, folds numbers that do not fit, and refuses 12.0, each in JSON and by its type.
#
# The column DateTime64(3) counts milliseconds, and events of players and boxes have milliseconds since 1970. One would expect such a
# number to be read in the unit of the column, and a number that does not fit to be refused, as -1 is:
#        {"at": 1796000000123}     DateTime64(3)       9999-12-31 23:59:59.000, no error
#        {"at": 1796000000.123}    DateTime64(3)       2026-11-30 00:53:20.123
#        {"code": 300}             UInt8               44, no error
#        {"code": -1}              UInt8               error
#        {"code": 12.0}            UInt8               error, and with it all rows of the insert; JSON knows no difference to 12
# And a table that sums does so in the type of its column: 4 GB and 4 GB of one day
#        SELECT sum(bytes)                             8000000000
#        the row that SummingMergeTree makes of both   3705032704
# Seen with chdb 4.4.0 (PyPI), which contains ClickHouse 26.9.
#
# Reports vanish into the year 9999, where no dashboard looks and no TTL removes them. Write times as text or with a decimal point,
# integers without one, and sum bytes in UInt64 whatever one event may have.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q chdb==4.4.0
cat >test.py <<'EOF'
from chdb.session import Session

session = Session()


def ask(query):
    try:
        return str(session.query(query, "TSV")).strip()
    except Exception as error:
        return "error: " + str(error).split("(")[0].split("\n")[0]


ask("CREATE DATABASE fleet ENGINE = Atomic")
ask("CREATE TABLE fleet.events (name String, at DateTime64(3, 'UTC'), code UInt8) ENGINE = MergeTree ORDER BY name")
NOON = '"2026-11-30 12:00:00"'
rows = {"ms": ("1796000000123", "1"), "s": ("1796000000.123", "1"), "300": (NOON, "300"), "-1": (NOON, "-1"), "12.0": (NOON, "12.0")}
found = {}
for name, (at, code) in rows.items():
    answer = ask(f'INSERT INTO fleet.events FORMAT JSONEachRow {{"name": "{name}", "at": {at}, "code": {code}}}')
    found[name] = answer[:5] or ask(f"SELECT at, code FROM fleet.events WHERE name = '{name}'")
    print(name, at, code, "->", answer or found[name])
ask("CREATE TABLE fleet.traffic (day Date, bytes UInt32) ENGINE = SummingMergeTree ORDER BY day")
for _ in range(2):
    ask("INSERT INTO fleet.traffic VALUES ('2026-11-30', 4000000000)")
found["sum"] = ask("SELECT sum(bytes) FROM fleet.traffic")
ask("OPTIMIZE TABLE fleet.traffic FINAL")
found["merged"] = ask("SELECT bytes FROM fleet.traffic")
print("sum(bytes):", found["sum"], "merged:", found["merged"])
assert found == {
    "ms": "9999-12-31 23:59:59.000\t1",
    "s": "2026-11-30 00:53:20.123\t1",
    "300": "2026-11-30 12:00:00.000\t44",
    "-1": "error",
    "12.0": "error",
    "sum": "8000000000",
    "merged": "3705032704",
}, found
EOF
venv/bin/python test.py
