#!/bin/sh
# An object that AWS's own SDK uploads from a stream to s3rver is stored with the framing of the transfer in it.
#
# Since early 2025 the SDKs send checksums by default; for a stream the checksum follows as a trailer, and the body goes in the encoding
# aws-chunked: sizes, data, trailer. An S3 server has to take that apart, or to refuse it by x-amz-content-sha256. s3rver, an emulator
# that many test with, answers 200 and stores the body as it came, to be read again by everybody:
#        put "hello world", from memory      get "hello world"
#        put "hello world", from a stream    get "6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n"
# One would expect that a put that succeeded gives back the same bytes. Seen with s3rver 3.7.1 and @aws-sdk/client-s3 3.1175.0 (npm);
# requestChecksumCalculation: "WHEN_REQUIRED" avoids it.
#
# Segments that a packager or a headend uploads to such a store are broken in a way that no status code shows; a reader of
# S3-compatible sources has to look at Content-Encoding: aws-chunked, which is stored with the object, and should not take it for one
# of HTTP's content codings.
set -eu
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" s3rver@3.7.1 @aws-sdk/client-s3@3.1175.0
cat >server.cjs <<'EOF'
const S3rver = require("s3rver");
const server = new S3rver({ port: 0, address: "127.0.0.1", silent: true, directory: `${__dirname}/store`, configureBuckets: [{ name: "b" }] });
server.run().then((address) => require("fs").writeFileSync(`${__dirname}/port`, String(address.port)));
EOF
mkdir store
node server.cjs &
server=$!
for _ in $(seq 100); do
    test -s port && break
    sleep 0.2
done
cat >test.cjs <<'EOF'
const { Readable } = require("stream");
const { S3Client, PutObjectCommand, GetObjectCommand } = require("@aws-sdk/client-s3");
const endpoint = `http://127.0.0.1:${require("fs").readFileSync("port", "utf8")}`;
const credentials = { accessKeyId: "S3RVER", secretAccessKey: "S3RVER" };
const common = { endpoint, credentials, forcePathStyle: true, region: "us-east-1" };
async function roundTrip(name, body, options = {}) {
  const client = new S3Client({ ...common, ...options });
  await client.send(new PutObjectCommand({ Bucket: "b", Key: name, Body: body, ContentLength: 11 }));
  const answer = await client.send(new GetObjectCommand({ Bucket: "b", Key: name }));
  const text = await answer.Body.transformToString();
  console.log(name, JSON.stringify(text), "Content-Encoding:", answer.ContentEncoding);
  return text;
}
(async () => {
  const stream = () => Readable.from([Buffer.from("hello "), Buffer.from("world")]);
  const found = [
    await roundTrip("memory", "hello world"),
    await roundTrip("stream", stream()),
    await roundTrip("stream-without-checksum", stream(), { requestChecksumCalculation: "WHEN_REQUIRED" }),
  ];
  const framed = "6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
  process.exit(found.join("|") === ["hello world", framed, "hello world"].join("|") ? 0 : 1);
})();
EOF
node test.cjs
