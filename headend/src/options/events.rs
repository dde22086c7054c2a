//! `[source.events]`: events of a bucket that its store writes to Kafka.

use std::path::Path;

use carousel::config::Mistake;
use serde::{Deserialize, Serialize};
use skycache_kafka::options::topic_mistake;
use skycache_kafka::{Brokers, Compression, KafkaSasl, KafkaTls};

/// `[source.events]`: events of the bucket of `pull`, as stores of S3 write them to a topic of Kafka. What one tells of is looked at
/// at once. Needs a program that was built with Kafka.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Events {
    /// Brokers that are asked first, each with its port.
    pub brokers: Vec<String>,
    /// Topic to which the store writes events. It may have those of other buckets too.
    pub topic: String,
    /// Interval at which the bucket is listed while events come, seconds. While they do not, it is `list_every_s` of
    /// `[source.s3]`, which is not longer.
    #[serde(default = "Events::default_list_every_s")]
    pub list_every_s: u64,
    /// TLS towards the brokers.
    #[serde(default)]
    pub tls: Option<KafkaTls>,
    /// Name and password for the brokers.
    #[serde(default)]
    pub sasl: Option<KafkaSasl>,
}

impl Events {
    const fn default_list_every_s() -> u64 {
        600
    }

    /// The connection that it describes.
    pub(crate) fn connection(&self) -> Brokers {
        Brokers {
            table: "source.events".to_owned(),
            brokers: self.brokers.clone(),
            client_id: "skycache-headend".to_owned(),
            compression: Compression::None,
            tls: self.tls.clone(),
            sasl: self.sasl.clone(),
        }
    }

    /// Relative paths begin at `folder`.
    pub(super) fn complete(&mut self, folder: &Path) {
        let mut connection = self.connection();
        connection.complete(folder);
        (self.tls, self.sasl) = (connection.tls, connection.sasl);
    }

    /// Every mistake; `prefix` is the path of the table, and `short_s` the interval of listings without events.
    pub(super) fn mistakes(&self, prefix: &str, short_s: u64) -> Vec<Mistake> {
        let mut all = self.connection().mistakes(prefix);
        let mut wrong = |key: &str, what: String, fix: &str| {
            all.push(Mistake::of_value(&format!("{prefix}.{key}"), &what, fix));
        };
        if self.topic.is_empty() {
            wrong("topic", "there is none".to_owned(), "name the topic to which the store writes events");
        }
        if let Some((what, fix)) = topic_mistake(&self.topic) {
            wrong("topic", what, fix);
        }
        if self.list_every_s == 0 {
            let fix = "600 is usual: a listing finds what no event has told";
            wrong("list_every_s", "must be greater than 0".to_owned(), fix);
        } else if self.list_every_s < short_s {
            let what = format!("{} is below list_every_s = {short_s} of [source.s3]", self.list_every_s);
            let fix = format!(
                "give {short_s} or more: while events come the bucket is listed as often as without them, or less often"
            );
            wrong("list_every_s", what, &fix);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn mistakes_are_named_and_paths_begin_at_the_folder_of_the_file() {
        let of = |pull: &str, events: &str| {
            let text = format!(
                "link.rate_bps = 1_000_000\n[[source]]\npath = '/x'\nbase = 'http://h/'\npull = '{pull}'\n[source.events]\n{events}"
            );
            Config::parse(&text, Path::new("/etc/skycache"))
        };
        let keys = |pull: &str, events: &str| -> Vec<String> {
            of(pull, events).unwrap_err().into_iter().map(|it| it.key).collect()
        };
        let good = "brokers = ['a:9092']\ntopic = 's3'\n";
        let config = of("s3://vod/", &format!("{good}[source.events.tls]\nca = 'ca.pem'\n")).unwrap();
        let events = config.sources[0].events.clone().unwrap();
        assert_eq!(events.list_every_s, 600);
        assert_eq!(events.tls.unwrap().ca.as_deref(), Some(Path::new("/etc/skycache/ca.pem")));
        assert_eq!(keys("https://h/a.m3u8", good), ["source[0].events"]);
        assert_eq!(
            keys("s3://vod/", "brokers = []\ntopic = ''\nlist_every_s = 0\n"),
            ["source[0].events.brokers", "source[0].events.topic", "source[0].events.list_every_s"]
        );
        for (short_s, list_every, is_fine) in [
            (60, "list_every_s = 59\n", false),
            (60, "list_every_s = 60\n", true),
            (3600, "", false),
            (3600, "list_every_s = 3600\n", true),
        ] {
            let events = format!("{good}{list_every}[source.s3]\nlist_every_s = {short_s}\n");
            let mistakes = of("s3://vod/", &events).err().unwrap_or_default();
            assert_eq!(mistakes.is_empty(), is_fine, "{short_s} {list_every}: {mistakes:?}");
            assert!(mistakes.iter().all(|it| it.key == "source[0].events.list_every_s"), "{mistakes:?}");
        }
        // Without [source.s3] that is its default.
        assert_eq!(
            keys("s3://vod/", &format!("{good}list_every_s = 10\n")),
            ["source[0].events.list_every_s"]
        );
        let sasl = "[source.events.sasl]\nmechanism = 'plain'\nuser = 'u'\npassword_file = 'p'\n";
        assert_eq!(
            keys("s3://vod/", &format!("brokers = ['a']\ntopic = 'a b'\n{sasl}")),
            ["source[0].events.brokers", "source[0].events.sasl.mechanism", "source[0].events.topic"]
        );
    }
}
