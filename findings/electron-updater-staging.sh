#!/bin/sh
# electron-updater cuts a staging percentage to a whole number, and the same machines are first in every release.
#
# latest.yml takes `stagingPercentage: 10` for a staged rollout. A machine is in if a number of its own is below the percentage.
#     stagingPercentage: 0.5     read by parseInt: 0, nobody at all is in; 1.9 is 1
#     releases 1.0.1 and 1.0.2   the number is the last 32 bits of the machine's staging UUID, and nothing of the release: those that
#                                got 1.0.1 with the first percent get 1.0.2, and every release after it, with the first percent
# So 0.5 % of a fleet of a million is none, without a warning, and a fleet has one fixed set of machines on which all faulty releases are
# tried. Going from 10 % to 20 % keeps those that are in. Seen with electron-updater 6.8.10 (npm), 20,000 UUIDs.
#
# Who computes a share for a rollout elsewhere (an update server that speaks this format, a box that follows several feeds) hashes
# the release too, and finds other machines in than electron-updater does.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" electron-updater@6.8.10
cat >test.cjs <<'END'
const assert = require("assert");
const { randomUUID } = require("crypto");
const { AppUpdater } = require("electron-updater/out/AppUpdater");
const isIn = (id, version, stagingPercentage) => {
  const updater = Object.create(AppUpdater.prototype);
  updater._logger = { info() {}, warn(text) { throw new Error(text); }, error() {} };
  updater.stagingUserIdPromise = { value: Promise.resolve(id) };
  return updater.isStagingMatch({ version, stagingPercentage });
};
(async () => {
  const ids = Array.from({ length: 20000 }, () => randomUUID());
  const share = async (version, percentage) => {
    const all = [];
    for (const id of ids) if (await isIn(id, version, percentage)) all.push(id);
    return all;
  };
  const counts = {};
  for (const percentage of [0.5, 1, 1.9, 2, 10, 20]) counts[percentage] = (await share("1.0.1", percentage)).length;
  console.log("machines of 20,000 that are in, by percentage:", counts);
  assert.equal(counts[0.5], 0);
  assert.equal(counts[1.9], counts[1]);
  assert.ok(counts[10] > 1800 && counts[10] < 2200);
  const [one, two, wider] = [await share("1.0.1", 1), await share("1.0.2", 1), await share("1.0.2", 2)];
  console.log("in 1 % of 1.0.1:", one.length, "of those in 1 % of 1.0.2:", one.filter((id) => two.includes(id)).length);
  assert.deepEqual(one, two);
  assert.ok(one.every((id) => wider.includes(id)));
})().catch((err) => { console.error(err); process.exit(1); });
END
node test.cjs
