#!/bin/sh
# The XMLTV readers of npm take a time without a zone for midnight, or for none, and give XML text undecoded.
#
# The DTD of XMLTV: times are YYYYMMDDhhmmss, may be cut off at any element, and are in UTC where no zone is given. In @iptv/xmltv
# a time without a zone loses its time of day without an error, and in epg-parser it is null:
#        20261129063517 +0000    both: 06:35:17
#        20261129063517          @iptv/xmltv: 2026-11-29 00:00:00    epg-parser: null
#        202611290635            @iptv/xmltv: 2026-11-02 00:00:00    epg-parser: null
# And both are parsers of XML only by sight: <title>R&amp;B</title> is "R&amp;B", and of a CDATA section @iptv/xmltv keeps the
# brackets, "![CDATA[R&B]]", while epg-parser has no text at all. One would expect "R&B" from each.
# Seen with @iptv/xmltv 1.0.1 and epg-parser 0.5.0 (npm).
#
# A guide that a headend sends on to be read by such apps should carry "+0000" with full times, and titles without CDATA.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" @iptv/xmltv@1.0.1 epg-parser@0.5.0
cat >test.mjs <<'EOF'
import { parseXmltv } from "@iptv/xmltv";
import { parse } from "epg-parser";

const guide = (start, title) => `<?xml version="1.0" encoding="UTF-8"?><tv><channel id="a"><display-name>A</display-name></channel>
  <programme start="${start}" stop="20261130000000 +0000" channel="a"><title>${title}</title></programme></tv>`;
const date = (value) => (value ? new Date(value).toISOString().slice(0, 19) : value);
const found = [];
for (const start of ["20261129063517 +0000", "20261129063517", "202611290635"]) {
  const text = guide(start, "x");
  const pair = [date(parseXmltv(text).programmes[0].start), date(parse(text).programs[0].start)];
  console.log(start, pair);
  found.push(...pair);
}
for (const title of ["R&amp;B", "<![CDATA[R&B]]>"]) {
  const text = guide("20261129063517 +0000", title);
  const pair = [parseXmltv(text).programmes[0].title[0]._value, parse(text).programs[0].title[0].value];
  console.log(title, pair);
  found.push(...pair);
}
const seen = ["2026-11-29T06:35:17", "2026-11-29T06:35:17", "2026-11-29T00:00:00", null, "2026-11-02T00:00:00", null];
seen.push("R&amp;B", "R&amp;B", "![CDATA[R&B]]", undefined);
process.exit(JSON.stringify(found) === JSON.stringify(seen) ? 0 : 1);
EOF
node test.mjs
