//! Messages of a topic with events of S3, in the forms of stores and of services in between.
//!
//! | who | form | keys |
//! |---|---|---|
//! | Amazon S3 (through a bridge), Ceph | `{"Records": […]}` | as forms are (`+` for a blank), `/` as it is; Ceph: as they are |
//! | MinIO, RustFS | the same, with `EventName` and `Key` around, names with `s3:` | as forms are, `/` as `%2F` |
//! | Amazon EventBridge | `{"detail-type": "Object Created", "detail": …}` | as they are |
//! | SNS, SQS, and their events of Lambda | one of the above as a text in `Message`, `Body`, `body` | as inside |
//!
//! An event says only that a key may have changed: the store's answer to the request says what it has. So its version,
//! size and user are not read, and an event of an older version, or a repeated one, does no harm.

use std::borrow::Cow;

use carousel::time::WallTime;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::EventOutcome;
use crate::pull::s3::listing::bare;

carousel::limits! {
    /// Bytes of a message with events.
    const MAX_MESSAGE_BYTES: usize = 1 << 20, "bytes" {
        why: "An event has some 1500 bytes, and stores write a few into a message; brokers take 1 MB unless they are told otherwise.",
        full: "The message is skipped as `too_long`, and the bucket is listed.",
        free: "Holds for one message.",
        test: "what_is_no_event_has_its_reason",
    }

    /// Bytes of a key in an event.
    const MAX_KEY_BYTES: usize = 1024, "bytes" {
        why: "Stores take no longer ones.",
        full: "The event is skipped as `bad_key`, and the bucket is listed.",
        free: "Holds for one event.",
        test: "what_is_no_event_has_its_reason",
    }
}

/// Envelopes around an event: EventBridge or S3, in SNS, in SQS, in an event of Lambda.
const ENVELOPES: usize = 4;

/// Event of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pull) enum Happened {
    /// It was created, or another version of it.
    Created,
    /// It was removed, or a version of it.
    Removed,
}

/// Time of an event, as its store counts. It shows whether two events are the same, but not which is newer: Amazon's sequencers
/// have an order, Ceph's are the bytes of a time with the lowest first, and MinIO's are the clock of the node that wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pull) struct Moment {
    /// In upper case; hexadecimal digits.
    sequencer: Option<String>,
    time_ms: Option<i64>,
}

impl Moment {
    /// Whether two events of one key have the same time: by their sequencers, or by their times if one has no sequencer.
    pub(in crate::pull) fn is_that_of(&self, other: &Self) -> bool {
        match (&self.sequencer, &other.sequencer) {
            (Some(a), Some(b)) => a == b,
            _ => self.time_ms.is_some() && self.time_ms == other.time_ms,
        }
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::pull) struct Event {
    pub(in crate::pull) bucket: String,
    /// The key; two if it is not known whether it is encoded; none if it cannot be the key of an object.
    pub(in crate::pull) keys: Vec<String>,
    pub(in crate::pull) happened: Happened,
    /// ETag of the object, without quotes.
    pub(in crate::pull) etag: Option<String>,
    pub(in crate::pull) moment: Moment,
}

/// Events of a message; each of them, or the message, may be none for a reason.
pub(in crate::pull) fn read(message: &[u8]) -> Vec<Result<Event, EventOutcome>> {
    if message.len() > MAX_MESSAGE_BYTES {
        return vec![Err(EventOutcome::TooLong)];
    }
    let mut all = Vec::new();
    match serde_json::from_slice(message) {
        Ok(value) => gather(&value, ENVELOPES, &mut all),
        Err(_) => all.push(Err(EventOutcome::NoJson)),
    }
    all
}

fn gather(value: &Value, envelopes: usize, all: &mut Vec<Result<Event, EventOutcome>>) {
    if let Some(list) = value.as_array().filter(|list| !list.is_empty() && envelopes > 0) {
        return list.iter().for_each(|it| gather(it, envelopes - 1, all));
    }
    let inner = ["Message", "Body", "body"].iter().find_map(|name| value[name].as_str());
    let inner = inner.or_else(|| value["Sns"]["Message"].as_str());
    if value["Event"] == "s3:TestEvent" {
        all.push(Err(EventOutcome::Test));
    } else if value["s3"].is_object() {
        all.push(of_record(value));
    } else if value["detail-type"].is_string() && value["detail"].is_object() {
        all.push(of_event_bridge(value));
    } else if let Some(list) = value.get("Records").or_else(|| value.get("Messages")) {
        gather(list, envelopes, all);
    } else if let Some(inner) = inner.filter(|_| envelopes > 0) {
        match serde_json::from_str(inner) {
            Ok(value) => gather(&value, envelopes - 1, all),
            Err(_) => all.push(Err(EventOutcome::NoEvent)),
        }
    } else {
        all.push(Err(EventOutcome::NoEvent));
    }
}

/// A record in the form of Amazon, MinIO and Ceph.
fn of_record(record: &Value) -> Result<Event, EventOutcome> {
    let text = |value: &Value| value.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
    let name = record["eventName"].as_str().ok_or(EventOutcome::NoEvent)?;
    let happened = happened(name).ok_or(EventOutcome::OtherEvent)?;
    let bucket = text(&record["s3"]["bucket"]["name"]).ok_or(EventOutcome::NoEvent)?;
    let object = &record["s3"]["object"];
    let raw = object["key"].as_str().unwrap_or_default();
    let mut keys = vec![decoded(raw)];
    // Ceph does not encode keys; should it begin to, both forms are requested.
    if record["eventSource"].as_str().is_some_and(|it| it.starts_with("ceph")) {
        keys.insert(0, Some(raw.to_owned()));
    }
    let moment = Moment {
        sequencer: text(&object["sequencer"]).and_then(sequencer),
        time_ms: record["eventTime"].as_str().and_then(time_ms),
    };
    let etag = text(&object["eTag"]).map(|it| bare(&it).to_owned());
    Ok(Event { bucket, keys: usable(keys), happened, etag, moment })
}

fn of_event_bridge(event: &Value) -> Result<Event, EventOutcome> {
    let text = |value: &Value| value.as_str().filter(|it| !it.is_empty()).map(str::to_owned);
    let happened = match event["detail-type"].as_str().unwrap_or_default() {
        "Object Created" | "Object Restore Completed" => Happened::Created,
        "Object Deleted" => Happened::Removed,
        _ => return Err(EventOutcome::OtherEvent),
    };
    let detail = &event["detail"];
    let bucket = text(&detail["bucket"]["name"]).ok_or(EventOutcome::NoEvent)?;
    let object = &detail["object"];
    let moment = Moment {
        sequencer: text(&object["sequencer"]).and_then(sequencer),
        time_ms: event["time"].as_str().and_then(time_ms),
    };
    let etag = text(&object["etag"]).map(|it| bare(&it).to_owned());
    Ok(Event { bucket, keys: usable(vec![text(&object["key"])]), happened, etag, moment })
}

/// Meaning of an event's name; `None` if it does not concern content.
fn happened(name: &str) -> Option<Happened> {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    let (kind, what) = name.split_once(':').unwrap_or((name, ""));
    match (kind, what) {
        ("ObjectCreated", _) | ("ObjectRestore", "Completed") | ("ObjectSynced", "Create") => {
            Some(Happened::Created)
        }
        ("ObjectRemoved" | "LifecycleExpiration" | "ObjectLifecycle", _) => Some(Happened::Removed),
        _ => None,
    }
}

/// Decodes a key from the encoding of forms; `None` if it is not UTF-8.
fn decoded(raw: &str) -> Option<String> {
    let raw = raw.replace('+', " ");
    percent_decode_str(&raw).decode_utf8().ok().map(Cow::into_owned)
}

/// Keys that an object can have, each once.
fn usable(keys: Vec<Option<String>>) -> Vec<String> {
    let mut all: Vec<String> = keys.into_iter().flatten().collect();
    all.retain(|key| !key.is_empty() && key.len() <= MAX_KEY_BYTES);
    all.dedup();
    all
}

/// A sequencer that can be compared.
fn sequencer(text: String) -> Option<String> {
    let is_hex = text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| text.to_ascii_uppercase())
}

/// Milliseconds since 1970. Ceph may write a zone without a colon.
fn time_ms(text: &str) -> Option<i64> {
    let text = text.strip_suffix("+0000").unwrap_or(text);
    Some(WallTime::from_xml(text)?.unix_ms())
}

/// Reads a message, for the tests with altered input.
#[doc(hidden)]
pub fn try_read(message: &[u8]) -> usize {
    let all = read(message);
    for pair in all.windows(2) {
        if let [Ok(a), Ok(b)] = pair {
            let both = (a.moment.is_that_of(&b.moment), b.moment.is_that_of(&a.moment));
            assert_eq!(both.0, both.1, "two events are the same whichever is compared");
        }
    }
    assert!(all.iter().flatten().all(|it| it.keys.len() <= 2));
    all.len()
}

#[cfg(test)]
pub(in crate::pull) mod tests {
    use super::*;

    /// An event as Amazon S3 writes it (eventVersion 2.1).
    pub(in crate::pull) fn amazon(
        name: &str,
        bucket: &str,
        key: &str,
        etag: &str,
        sequencer: &str,
    ) -> String {
        format!(
            r#"{{"Records":[{{"eventVersion":"2.1","eventSource":"aws:s3","awsRegion":"eu-central-1","eventTime":"2026-11-29T06:31:07.120Z",
            "eventName":"{name}","userIdentity":{{"principalId":"AWS:AIDA"}},"requestParameters":{{"sourceIPAddress":"192.0.2.1"}},
            "responseElements":{{"x-amz-request-id":"C3D1","x-amz-id-2":"FMyU"}},"s3":{{"s3SchemaVersion":"1.0","configurationId":"all",
            "bucket":{{"name":"{bucket}","ownerIdentity":{{"principalId":"A3"}},"arn":"arn:aws:s3:::{bucket}"}},
            "object":{{"key":"{key}","size":1024,"eTag":"{etag}","versionId":"096fKKXTRTtl3on89fVO.nfljtsv6qko","sequencer":"{sequencer}"}}}}}}]}}"#
        )
    }

    fn one(text: &str) -> Event {
        let [Ok(event)] = &read(text.as_bytes())[..] else { panic!("{:?}", read(text.as_bytes())) };
        event.clone()
    }

    #[test]
    fn events_of_amazon_are_read() {
        let text = amazon(
            "ObjectCreated:Put",
            "films",
            "vod/a+film%2B1+100%25/%C3%A9.m4s",
            "d41d",
            "0055AED6DCD90281E5",
        );
        let event = one(&text);
        let moment =
            Moment { sequencer: Some("0055AED6DCD90281E5".to_owned()), time_ms: Some(1_795_933_867_120) };
        let keys = vec!["vod/a film+1 100%/\u{e9}.m4s".to_owned()];
        let etag = Some("d41d".to_owned());
        assert_eq!(
            event,
            Event { bucket: "films".to_owned(), keys, happened: Happened::Created, etag, moment }
        );
        // A removal has neither size nor ETag.
        let text = amazon("ObjectRemoved:DeleteMarkerCreated", "films", "a", "", "0");
        assert_eq!((one(&text).happened, one(&text).etag), (Happened::Removed, None));
    }

    #[test]
    fn events_of_minio_are_read() {
        // MinIO RELEASE.2025-09-07, its target for Kafka: an envelope, `s3:`, a slash as `%2F`.
        let text = r#"{"EventName":"s3:ObjectCreated:CompleteMultipartUpload","Key":"films/vod/a b/1.m4s","Records":[{"eventVersion":"2.0",
            "eventSource":"minio:s3","awsRegion":"","eventTime":"2026-11-29T06:31:07.120Z","eventName":"s3:ObjectCreated:CompleteMultipartUpload",
            "userIdentity":{"principalId":"minio"},"requestParameters":{"principalId":"minio","region":"","sourceIPAddress":"172.18.0.1"},
            "responseElements":{"x-amz-id-2":"d","x-amz-request-id":"159FB6B233B08AF0","x-minio-origin-endpoint":"http://172.18.0.6:9000"},
            "s3":{"s3SchemaVersion":"1.0","configurationId":"Config","bucket":{"name":"films","ownerIdentity":{"principalId":"minio"},
            "arn":"arn:aws:s3:::films"},"object":{"key":"vod%2Fa+b%2F1.m4s","size":23,"eTag":"e-2","contentType":"video/iso.segment",
            "userMetadata":{"content-type":"video/iso.segment"},"sequencer":"159FB6B233B0B2A7"}},
            "source":{"host":"172.18.0.1","port":"","userAgent":"MinIO (linux; amd64) minio-go/v7"}}]}"#;
        let event = one(text);
        assert_eq!(
            (&event.keys[..], event.etag.as_deref()),
            (&["vod/a b/1.m4s".to_owned()][..], Some("e-2"))
        );
        let removed = text.replace("ObjectCreated:CompleteMultipartUpload", "ObjectRemoved:Delete");
        assert_eq!(one(&removed).happened, Happened::Removed);
        let other = text.replace("ObjectCreated:CompleteMultipartUpload", "ObjectAccessed:Get");
        assert_eq!(read(other.as_bytes()), [Err(EventOutcome::OtherEvent)]);
    }

    #[test]
    fn events_of_ceph_are_read_whether_keys_are_encoded_or_not() {
        let of = |key: &str, time: &str| {
            format!(
                r#"{{"Records":[{{"eventVersion":"2.2","eventSource":"ceph:s3","awsRegion":"default","eventTime":"{time}",
                "eventName":"ObjectCreated:Copy","userIdentity":{{"principalId":"tester"}},"requestParameters":{{"sourceIPAddress":""}},
                "responseElements":{{"x-amz-request-id":"503a4c37","x-amz-id-2":"14d2-zone1"}},"s3":{{"s3SchemaVersion":"1.0",
                "configurationId":"mynotif1","bucket":{{"name":"films","ownerIdentity":{{"principalId":"tester"}},"arn":"arn:aws:s3:zone::films","id":"503a"}},
                "object":{{"key":"{key}","size":1024,"eTag":"37b51d194a7513e45b56f6524f2d51f2","versionId":"","sequencer":"F7E6D75DC742D108",
                "metadata":[],"tags":[]}}}},"eventId":"","opaqueData":"me@example.com"}}]}}"#
            )
        };
        let event = one(&of("vod/plain.ts", "2026-11-29T06:31:07.120724Z"));
        assert_eq!(event.keys, ["vod/plain.ts"]);
        assert_eq!(event.moment.time_ms, Some(1_795_933_867_120));
        let event = one(&of("vod/a+b%20c.ts", "2026-11-29T06:31:07.120724+0000"));
        assert_eq!(event.keys, ["vod/a+b%20c.ts", "vod/a b c.ts"]);
        assert_eq!(event.moment.time_ms, Some(1_795_933_867_120));
    }

    #[test]
    fn events_of_event_bridge_are_read() {
        let text = r#"{"version":"0","id":"17793124-05d4-b198-2fde-7ededc63b103","detail-type":"Object Created","source":"aws.s3",
            "account":"111122223333","time":"2026-11-29T06:31:07Z","region":"eu-central-1","resources":["arn:aws:s3:::films"],
            "detail":{"version":"0","bucket":{"name":"films"},"object":{"key":"vod/a+b c%.ts","size":5,"etag":"b1946ac9",
            "version-id":"IYV3p45BT0ac8hjHg1houSdS1a.Mro8e","sequencer":"617f08299329d189"},"request-id":"N4N7GDK58NMKJ12R",
            "requester":"123456789012","source-ip-address":"1.2.3.4","reason":"PutObject"}}"#;
        let event = one(text);
        assert_eq!(event.keys, ["vod/a+b c%.ts"], "they are not encoded there");
        assert_eq!(event.moment.sequencer.as_deref(), Some("617F08299329D189"));
        assert_eq!(one(&text.replace("Object Created", "Object Deleted")).happened, Happened::Removed);
        let other = text.replace("Object Created", "Object Tags Added");
        assert_eq!(read(other.as_bytes()), [Err(EventOutcome::OtherEvent)]);
    }

    #[test]
    fn envelopes_of_sns_and_sqs_are_opened() {
        let inner = amazon("ObjectCreated:Put", "films", "a", "e", "1");
        let quoted = serde_json::to_string(&inner).unwrap();
        let sns = format!(
            r#"{{"Type":"Notification","MessageId":"x","TopicArn":"arn","Subject":"Amazon S3 Notification","Message":{quoted}}}"#
        );
        let sqs = format!(
            r#"{{"Messages":[{{"MessageId":"x","Body":{}}}]}}"#,
            serde_json::to_string(&sns).unwrap()
        );
        let lambda = format!(
            r#"{{"Records":[{{"messageId":"x","eventSource":"aws:sqs","body":{quoted}}},{{"EventSource":"aws:sns","Sns":{{"Message":{quoted}}}}}]}}"#
        );
        for text in [&sns, &sqs] {
            assert_eq!(one(text), one(&inner), "{text}");
        }
        assert_eq!(read(lambda.as_bytes()), [Ok(one(&inner)), Ok(one(&inner))]);
        // Envelopes without end are none.
        let mut deep = inner;
        for _ in 0..=ENVELOPES {
            deep = format!(r#"{{"Body":{}}}"#, serde_json::to_string(&deep).unwrap());
        }
        assert_eq!(read(deep.as_bytes()), [Err(EventOutcome::NoEvent)]);
    }

    #[test]
    fn several_records_are_several_events() {
        let (a, b) = (
            amazon("ObjectCreated:Put", "films", "a", "e", "1"),
            amazon("ObjectCreated:Post", "films", "b", "e", "1"),
        );
        let records = |text: &str| serde_json::from_str::<Value>(text).unwrap()["Records"][0].clone();
        let text = serde_json::json!({ "Records": [records(&a), 7, records(&b)] }).to_string();
        assert_eq!(read(text.as_bytes()), [Ok(one(&a)), Err(EventOutcome::NoEvent), Ok(one(&b))]);
    }

    #[test]
    fn what_is_no_event_has_its_reason() {
        let long_key = "k".repeat(MAX_KEY_BYTES + 1);
        let huge_key = "k".repeat(10 << 20);
        for (text, why) in [
            (r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-11-29T06:31:07.120Z","Bucket":"films","RequestId":"5"}"#.to_owned(), EventOutcome::Test),
            (String::new(), EventOutcome::NoJson),
            ("\u{0}\u{0}".to_owned(), EventOutcome::NoJson),
            ("[[[[[[[[[[]]]]]]]]]]".to_owned(), EventOutcome::NoEvent),
            ("[".repeat(5000), EventOutcome::NoJson),
            (r#"{"Records":[]}"#.to_owned(), EventOutcome::NoEvent),
            (r#"{"Records":7}"#.to_owned(), EventOutcome::NoEvent),
            (r#"{"id":"p-1","surrogate_key":"film"}"#.to_owned(), EventOutcome::NoEvent),
            ("7".to_owned(), EventOutcome::NoEvent),
            (amazon("ObjectTagging:Put", "films", "a", "e", "1"), EventOutcome::OtherEvent),
            (amazon("ObjectCreated:Put", "", "a", "e", "1"), EventOutcome::NoEvent),
            (amazon("ObjectCreated:Put", "films", &huge_key, "e", "1"), EventOutcome::TooLong),
        ] {
            assert_eq!(read(text.as_bytes()), [Err(why)], "{text:.200}");
        }
        // Of whose bucket that is comes first.
        for key in ["", "%FF", &long_key] {
            assert!(one(&amazon("ObjectCreated:Put", "films", key, "e", "1")).keys.is_empty(), "{key}");
        }
        let longest = amazon("ObjectCreated:Put", "films", &long_key[1..], "e", "1");
        assert_eq!(one(&longest).keys[0].len(), MAX_KEY_BYTES);
    }

    #[test]
    fn events_are_the_same_by_sequencer_and_else_by_time() {
        let of = |sequencer: &str, time: &str| Moment {
            sequencer: self::sequencer(sequencer.to_owned()).filter(|it| !it.is_empty()),
            time_ms: time_ms(time),
        };
        let time = "2026-11-29T06:31:07Z";
        for (a, b, is_same) in [
            (of("0055AED6DCD90281E5", time), of("0055AED6DCD90281E6", time), false),
            (of("0055aed6dcd90281e5", time), of("0055AED6DCD90281E5", time), true),
            (of("", time), of("55AE00", "2026-11-29T06:31:07.001Z"), false),
            (of("no hex", time), of("0", time), true),
            (of("", "yesterday"), of("0", time), false),
            (of("", "yesterday"), of("", "yesterday"), false),
        ] {
            assert_eq!(a.is_that_of(&b), is_same, "{a:?} {b:?}");
        }
    }
}
