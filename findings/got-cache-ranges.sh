#!/bin/sh
# got's cache answers every range, and the whole object too, with the first range that was asked for.
#
# RFC 9111 section 3.3: a 206 may be stored, but only for what it contains. One would expect a cache to store no 206, as undici's and
# make-fetch-happen do, or to keep it for its range. got, one of the most used HTTP clients of Node, stores it under the URL alone
# when its option "cache" is set:
#        Range: bytes=0-9      206, bytes 0-9/1000, from the origin
#        Range: bytes=10-19    206, bytes 0-9/1000, from the cache
#        no Range              206, 10 bytes, from the cache, and got throws no error
# Seen with got 13.0.0 (cacheable-request 10.2) and 14.6.6 (cacheable-request 13.0), npm.
#
# A script that reads byte-range HLS, repairs an object by ranges or resumes a transfer joins the same ten bytes again and again. The
# length is right when the ranges have one size, so that only a digest shows it.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" got@13.0.0
cat >test.mjs <<'EOF'
import http from "node:http";
import got from "got";

let requests = 0;
const file = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 100));
const origin = http.createServer((request, response) => {
  requests++;
  response.setHeader("Cache-Control", "max-age=60");
  response.setHeader("ETag", '"e"');
  const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
  if (first === undefined) return response.end(file);
  response.writeHead(206, { "Content-Range": `bytes ${first}-${last}/${file.length}` });
  response.end(file.subarray(Number(first), Number(last) + 1));
});
await new Promise((resolve) => origin.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${origin.address().port}/segment`;
const cache = new Map();
const found = [];
for (const range of ["bytes=0-9", "bytes=10-19", undefined]) {
  const answer = await got(url, { cache, headers: { range }, responseType: "buffer" });
  console.log(range, answer.statusCode, answer.headers["content-range"], "first byte", answer.body[0], "from cache:", answer.isFromCache);
  found.push([answer.statusCode, answer.body.length, answer.body[0]].join());
}
console.log("requests to the origin:", requests);
process.exit(requests === 1 && found.every((answer) => answer === "206,10,0") ? 0 : 1);
EOF
node test.mjs
