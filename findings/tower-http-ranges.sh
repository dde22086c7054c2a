#!/bin/sh
# The file servers of tower-http (axum's) and aiohttp go on with another version of a file: neither reads the ETag in If-Range.
#
# RFC 9110 section 13.1.5: with a validator in If-Range that is not the file's, Range has to be ignored. Section 14.1.2: a suffix longer
# than the file means all of it; section 14.2: a unit that is not known is ignored. Of a file with 16 bytes:
#                                                tower-http        aiohttp
#        bytes=5-, If-Range: "another"           206, bytes 5-15   206, bytes 5-15, though it sends an ETag
#        bytes=5-, If-Range: a date of 1994      206, bytes 5-15   200, all
#        bytes=-99                               416               206, bytes 0-15
#        seconds=5-                              416               416
#        bytes=0-1,4-5                           416               416
# One would expect the current file servers of two frameworks to have what nginx had in 2013; players' last resort for "the last bytes" of
# a small file, and a continued download, are no rarities. Seen with tower-http 0.6.11 (the Rust registry) and aiohttp 3.14.5 (PyPI).
#
# Origins that are a small service of one's own often serve files so. A pull or repair from them has to send a single range within the length
# that it knows, and to compare the validators of each 206 with what it holds, If-Range or not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src files
printf '%s' 0123456789abcdef >files/film
cat >Cargo.toml <<'EOF'
[package]
name = "finding"
version = "0.1.0"
edition = "2021"

[dependencies]
bytes = "1"
http = "1"
http-body-util = "0.1"
tokio = { version = "1", features = ["fs", "macros", "rt"] }
tower = { version = "0.5", features = ["util"] }
tower-http = { version = "=0.6.11", features = ["fs"] }
EOF
cat >src/main.rs <<'EOF'
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tower::ServiceExt;
use tower_http::services::ServeDir;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
    let cases = [
        ("bytes=5-", None, (206, 11)),
        ("bytes=5-", Some("\"another\""), (206, 11)),
        ("bytes=5-", date, (206, 11)),
        ("bytes=-99", None, (416, 0)),
        ("seconds=5-", None, (416, 0)),
        ("bytes=0-1,4-5", None, (416, 0)),
    ];
    for (range, if_range, seen) in cases {
        let mut request = Request::get("/film").header("range", range);
        if let Some(validator) = if_range {
            request = request.header("if-range", validator);
        }
        let answer = ServeDir::new("files").oneshot(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        let length = answer.into_body().collect().await.unwrap().to_bytes().len();
        println!("tower-http: {range} {if_range:?}: {status}");
        assert_eq!((status, if status == 206 { length } else { 0 }), seen);
    }
}
EOF
CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$dir/target" cargo run -q
python3 -m venv venv
venv/bin/pip install -q aiohttp==3.14.5
cat >test.py <<'EOF'
import asyncio

from aiohttp import ClientSession, web

CASES = [
    ("bytes=5-", None, (206, 11)),
    ("bytes=5-", '"another"', (206, 11)),
    ("bytes=5-", "Sun, 06 Nov 1994 08:49:37 GMT", (200, 16)),
    ("bytes=-99", None, (206, 16)),
    ("seconds=5-", None, (416, 0)),
    ("bytes=0-1,4-5", None, (416, 0)),
]


async def main():
    app = web.Application()
    app.router.add_static("/", "files")
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ClientSession() as session:
        for wanted, validator, seen in CASES:
            headers = {"Range": wanted, **({"If-Range": validator} if validator else {})}
            async with session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/film", headers=headers) as answer:
                body = await answer.read()
                print(f"aiohttp: {wanted} {validator}: {answer.status}, ETag {answer.headers.get('ETag')}")
                assert (answer.status, len(body) if answer.status != 416 else 0) == seen
                assert answer.status == 416 or answer.headers["ETag"] != validator
    await runner.cleanup()


asyncio.run(main())
EOF
venv/bin/python test.py
