#!/bin/sh
# The Rust crate flute hashes the decoded object for Content-MD5, and drops objects of senders that go by the RFC.
#
# RFC 6726 section 3.4.2: Content-MD5 is used as in RFC 2616, whose section 14.15 has the MD5 of the body "including any content-coding that
# has been applied". Of a guide of 800 bytes that is sent as 48 bytes of gzip:
#        flute's FDT                       Content-MD5 of the 800 bytes, Content-Length="800" Transfer-Length="48"
#        received by flute                 complete
#        the same with the MD5 of the 48   error, MD5 mismatch, though every byte arrived
# One would expect the MD5 of what is sent, which can be checked before anything is decoded. Without a content encoding, which is what
# interoperability is tested with, both are one. Seen with flute 1.11.7 (the Rust registry); the Python package flute-alc is built on it.
#
# A receiver has to accept either MD5 where an encoding was applied; a sender that does not know its receivers should write Content-MD5
# for objects without an encoding alone, or send the encoded file as a file of its own.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
mkdir src
printf '%s\n' '[package]' 'name = "finding"' 'version = "0.1.0"' 'edition = "2021"' '[dependencies]' >Cargo.toml
printf '%s\n' 'flute = "=1.11.7"' 'base64 = "=0.22.1"' 'md5 = "0.8"' 'url = "2"' >>Cargo.toml
cat >src/main.rs <<'EOF'
use base64::prelude::{Engine as _, BASE64_STANDARD};
use flute::core::{lct::Cenc, UDPEndpoint};
use flute::receiver::{writer::ObjectWriterBufferBuilder, MultiReceiver};
use flute::sender::{ObjectDesc, Sender, TransferConfig};
use std::{rc::Rc, time::SystemTime};

fn main() {
    let now = SystemTime::now();
    let endpoint = UDPEndpoint::new(None, "224.0.0.1".into(), 3400);
    let mut sender = Sender::new(endpoint.clone(), 1, &Default::default(), &Default::default());
    let guide = b"<guide/>".repeat(100);
    let url = url::Url::parse("http://a.example/guide.xml").unwrap();
    let config = TransferConfig { cenc: Cenc::Gzip, ..Default::default() };
    sender.add_object(0, ObjectDesc::create_from_buffer(guide.clone(), "text/xml", &url, true, config).unwrap()).unwrap();
    sender.publish(now).unwrap();
    let mut packets: Vec<_> = std::iter::from_fn(|| sender.read(now)).collect();
    let gzip = &packets[1][4 * packets[1][2] as usize + 4..]; // behind the LCT header and the FEC payload ID
    let [of_guide, of_gzip] = [&guide[..], gzip].map(|bytes| BASE64_STANDARD.encode(md5::compute(bytes).0));
    let receive = |packets: &[Vec<u8>]| {
        let writer = Rc::new(ObjectWriterBufferBuilder::new(true));
        let mut receiver = MultiReceiver::new(writer.clone(), None, false);
        packets.iter().for_each(|packet| receiver.push(&endpoint, packet, now).unwrap());
        let object = writer.objects.borrow()[0].clone();
        let found = (object.borrow().complete, object.borrow().error);
        found
    };
    let position = |packet: &[u8], text: &str| packet.windows(text.len()).position(|it| it == text.as_bytes());
    println!("gzip: {} bytes, MD5 {of_gzip}; decoded: {of_guide}, at {:?}", gzip.len(), position(&packets[0], &of_guide));
    let at = position(&packets[0], &of_guide).expect("the FDT has the MD5 of the decoded object");
    assert_eq!((packets.len(), receive(&packets)), (2, (true, false)));
    packets[0][at..at + of_gzip.len()].copy_from_slice(of_gzip.as_bytes());
    println!("with the MD5 of what is sent: complete and error are {:?}", receive(&packets));
    assert_eq!(receive(&packets), (false, true));
}
EOF
CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$dir/target" cargo run -q
