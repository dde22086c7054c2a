#!/bin/sh
# A URL that boto3 presigns for a list is signed for another path than it has, and by Signature Version 2.
#
# generate_presigned_url takes Signature Version 2 in us-east-1 and for stores of one's own, though all requests that boto3 sends itself
# are signed by version 4. For a bucket in the path it signs the resource "/b/" and writes the URL with "/b":
#        list_objects_v2    http://host/b?list-type=2&...&AWSAccessKeyId=...&Signature=...    403 SignatureDoesNotMatch
#        get_object         http://host/b/key?AWSAccessKeyId=...&Signature=...                200
# With Config(signature_version="s3v4") both are 200. One would expect version 4 by default, and that a client's own signature fits its
# own URL. Seen with boto3 1.44.8 (PyPI) and s3rver 3.7.1 (npm), which signs the path of the request as it is; s3s-fs 0.14.1 (the
# Rust registry) refuses it as well.
#
# "The key may list, the tool said 403" is not about the key or its policy: who tries a bucket by a presigned list has to ask for s3v4.
# A signer does well to sign the very URL that is sent.
set -eu
dir=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund --prefix "$dir" s3rver@3.7.1
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check boto3==1.44.8
cat >server.cjs <<'END'
const S3rver = require("s3rver");
const server = new S3rver({ port: 0, address: "127.0.0.1", silent: true, directory: `${__dirname}/store`, configureBuckets: [{ name: "b" }] });
server.run().then((address) => require("fs").writeFileSync(`${__dirname}/port`, String(address.port)));
END
mkdir store
node server.cjs &
server=$!
for _ in $(seq 100); do
    test -s port && break
    sleep 0.2
done
cat >test.py <<'END'
import urllib.error, urllib.request

import boto3
import botocore.auth
from botocore.config import Config

signed = []
original = botocore.auth.HmacV1Auth.sign_string
botocore.auth.HmacV1Auth.sign_string = lambda self, text: signed.append(text.split("\n")[-1]) or original(self, text)
common = {"endpoint_url": f"http://127.0.0.1:{open('port').read()}", "region_name": "us-east-1",
          "aws_access_key_id": "S3RVER", "aws_secret_access_key": "S3RVER"}
found = []
for version in (None, "s3v4"):
    client = boto3.client("s3", **common, config=Config(s3={"addressing_style": "path"}, signature_version=version))
    client.put_object(Bucket="b", Key="key", Body=b"x")
    for name, parameters in (("list_objects_v2", {}), ("get_object", {"Key": "key"})):
        url = client.generate_presigned_url(name, Params={"Bucket": "b", **parameters})
        try:
            status = urllib.request.urlopen(url, timeout=10).status
        except urllib.error.HTTPError as err:
            status = err.code
        path = url.split("?")[0].split("/", 3)[3]
        print(version or "default", name, "path /" + path, "X-Amz-Signature" in url and "version 4" or "version 2", status)
        found.append(status)
print("signed by version 2:", signed)
assert found == [403, 200, 200, 200] and signed == ["/b/", "/b/key"], (found, signed)
END
"$dir/venv/bin/python" test.py
