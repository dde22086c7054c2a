#!/bin/sh
# @svta/cml-cmcd writes names beyond Latin-1 into CMCD fields as they are: fetch then refuses the whole request, not the measurement.
#
# Seen with @svta/cml-cmcd 2.7.0 on Node 18 and later, versions 1 and 2 of CMCD:
#        toCmcdHeaders({ cid: "東京", ... })   CMCD-Session: cid="東京",sid="a",v=2      no error
#        new Headers(...)                      TypeError: Cannot convert argument to a ByteString ...
# One would expect an encoder of Structured Fields to refuse the string or to encode it: RFC 9651 section 3.3.3 has ASCII alone
# ("serialize a string: if it contains characters outside %x20-7e, fail"). A name within Latin-1 ("Köln") gets through fetch as a
# byte that is neither ASCII nor UTF-8, so a reader that takes fields for UTF-8 does not see it. By query and by event the same
# name arrives as UTF-8 inside a string, which a strict reader of RFC 9651 refuses together with everything beside it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y > /dev/null
npm install --silent --no-audit --no-fund --ignore-scripts @svta/cml-cmcd@2.7.0
cat > try.mjs <<'JS'
import { encodeCmcd, toCmcdHeaders } from '@svta/cml-cmcd';
const outcome = work => { try { work(); return 'taken'; } catch (error) { return error.name; } };
for (const version of [1, 2]) {
    for (const cid of ['Tokyo', 'Köln', '東京']) {
        const fields = toCmcdHeaders({ cid, sid: 'a', v: version }, { version });
        console.log(version, fields['CMCD-Session'], outcome(() => new Headers(fields)));
    }
}
const event = encodeCmcd({ cid: '東京', sid: 'a', e: 'ps', sta: 'p', ts: 1, v: 2 }, { version: 2, reportingMode: 'event' });
console.log(event);
JS
node try.mjs | tee said.txt
grep -q '^1 cid="東京",sid="a" TypeError$' said.txt
grep -q '^2 cid="東京",sid="a",v=2 TypeError$' said.txt
grep -q '^2 cid="Köln",sid="a",v=2 taken$' said.txt
grep -q '^2 cid="Tokyo",sid="a",v=2 taken$' said.txt
grep -q '^cid="東京",e=ps,sid="a",sta=p,ts=1,v=2$' said.txt
