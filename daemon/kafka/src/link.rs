//! Connections to brokers: opened when needed, closed when they fail, with one line of the log for each change.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carousel::time::WallTime;
use rskafka::BackoffConfig;
use rskafka::chrono::DateTime;
use rskafka::client::error::{Error, ProtocolError, RequestError};
use rskafka::client::partition::{Compression as Codec, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
pub use rskafka::record::Record;
use rustls::client::danger::ServerCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::time::timeout;

use crate::options::{Brokers, Compression, KafkaTls, Mechanism};
use crate::{KafkaError, LinkStats};

/// Time that one request may take with all its attempts; a broker that is beginning answers within that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between attempts of one request.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Pause before the connection is tried again, the first time; it doubles from time to time.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest such pause: a purge comes within seconds of the broker's return, and a fleet does not crowd it.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Attempts after which a lasting error is logged again.
const REMIND_AFTER: u32 = 60;
/// Time for which a fetch waits at the broker for messages: some brokers answer only then, though messages have come.
const FETCH_WAIT_MS: i32 = 250;
/// Bytes of one fetch; a message that is longer comes alone.
const FETCH_BYTES: i32 = 1 << 20;
/// Bytes of one answer of a broker: several times what brokers take as a message unless they are told otherwise, and a list of some 100,000
/// partitions. A longer answer to a fetch counts as one that cannot be read; of anything else it is a failure of the broker.
const ANSWER_BYTES: usize = 16 << 20;
/// Failed fetches at one offset after which it is skipped.
const READ_ATTEMPTS: u32 = 3;

/// News of a link, for the log.
#[derive(Debug)]
pub enum Notice<'a> {
    /// It does not do what it should: once when that begins, and again from time to time.
    Failed {
        /// The reason.
        why: KafkaError,
        /// The fault, and the fix.
        line: &'a str,
    },
    /// The broker answers again after a failure.
    Answers,
    /// A message cannot be read, and is skipped.
    Unreadable {
        /// Number of its partition.
        partition: i32,
        /// Its place.
        offset: Option<i64>,
        /// The library's message.
        line: &'a str,
    },
}

/// Services of the program around a link: its log, and reading of PEM files with messages that fit it.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// Logs news of a topic.
    fn log(&self, topic: &str, notice: &Notice<'_>);
    /// Verifies brokers by the authorities of a file, which `ca` of a table of the configuration names. Its other certificates may
    /// not sign any.
    ///
    /// # Errors
    /// One line with the fix.
    fn verifier(&self, table: &str, file: &Path) -> Result<Arc<dyn ServerCertVerifier>, String>;
    /// Reads a chain and its private key.
    ///
    /// # Errors
    /// One line with the fix.
    fn pair(&self, table: &str, certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String>;
}

/// Failure of a request.
#[derive(Debug)]
pub struct LinkError {
    why: KafkaError,
    line: String,
    is_too_large: bool,
}

impl LinkError {
    fn no_topic(place: &ConfiguredTopic) -> Self {
        let ConfiguredTopic { topic, table } = place;
        let fix = format!("create it, or name another in [{table}]; it is looked for every few seconds");
        Self::new(KafkaError::NoTopic, format!("there is no topic {topic}: {fix}"))
    }

    fn of(err: &Error, place: &ConfiguredTopic) -> Self {
        if let Error::ServerError { protocol_error: ProtocolError::UnknownTopicOrPartition, .. } = err {
            return Self::no_topic(place);
        }
        // Behind several layers that only say that there were several attempts.
        let mut line = err.to_string();
        if let Some((_, inner)) = line.rsplit_once("Source: ") {
            line = inner.to_owned();
        }
        let why = match err {
            Error::ServerError { protocol_error, .. } => match protocol_error {
                ProtocolError::TopicAuthorizationFailed | ProtocolError::InvalidTopicException => {
                    KafkaError::NoTopic
                }
                ProtocolError::SaslAuthenticationFailed | ProtocolError::ClusterAuthorizationFailed => {
                    KafkaError::Credentials
                }
                _ => KafkaError::Broker,
            },
            // Longer than ANSWER_BYTES; the library's type is not public.
            _ if line.contains("Message too large") => KafkaError::Broker,
            _ if line.contains("Sasl") || line.contains("certificate") => KafkaError::Credentials,
            Error::InvalidResponse(_) => KafkaError::Broker,
            _ => KafkaError::Unreachable,
        };
        let is_too_large = matches!(
            err,
            Error::ServerError {
                protocol_error: ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge,
                ..
            }
        );
        Self { why, line, is_too_large }
    }

    fn new(why: KafkaError, line: String) -> Self {
        Self { why, line, is_too_large: false }
    }

    fn silent() -> Self {
        Self::new(KafkaError::Unreachable, "the broker does not answer".to_owned())
    }

    /// The reason.
    pub fn why(&self) -> KafkaError {
        self.why
    }

    /// Whether messages are larger than the broker takes.
    pub fn is_too_large(&self) -> bool {
        self.is_too_large
    }

    fn credentials(line: String) -> Self {
        Self::new(KafkaError::Credentials, line)
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// A topic, and the table of the configuration that names it.
#[derive(Debug, Clone)]
struct ConfiguredTopic {
    topic: String,
    table: String,
}

/// One user of the brokers: its connection, and what was last said of it.
#[derive(Debug)]
pub struct Link {
    options: Arc<Brokers>,
    around: Arc<dyn Surroundings>,
    stats: Arc<LinkStats>,
    place: ConfiguredTopic,
    client: Option<Arc<Client>>,
    partitions: Vec<PartitionClient>,
    /// The error that was last logged, and failed attempts since.
    said: Option<(KafkaError, u32)>,
    pause: Duration,
}

impl Link {
    /// For one topic. Nothing is connected yet.
    pub fn new(
        options: &Arc<Brokers>,
        topic: &str,
        stats: &Arc<LinkStats>,
        around: &Arc<dyn Surroundings>,
    ) -> Self {
        Self {
            options: Arc::clone(options),
            around: Arc::clone(around),
            stats: Arc::clone(stats),
            place: ConfiguredTopic { topic: topic.to_owned(), table: options.table.clone() },
            client: None,
            partitions: Vec::new(),
            said: None,
            pause: PAUSE,
        }
    }

    /// Writes messages to the partition of this number, counted round.
    ///
    /// # Errors
    /// Why they were not taken.
    pub async fn produce(&mut self, number: u64, records: Vec<Record>) -> Result<(), LinkError> {
        self.connect().await?;
        let at = usize::try_from(number % self.partitions.len().max(1) as u64).unwrap_or(0);
        let codec = match self.options.compression {
            Compression::None => Codec::NoCompression,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        };
        let sent = self.partitions[at].produce(records, codec);
        within(&self.place, sent).await.map(|_| ())
    }

    /// Connects, and finds the partitions of the topic.
    async fn connect(&mut self) -> Result<(), LinkError> {
        if !self.partitions.is_empty() {
            return Ok(());
        }
        let (client, numbers) = self.partition_numbers().await?;
        let mut partitions = Vec::new();
        for number in numbers {
            let made = client.partition_client(&self.place.topic, number, UnknownTopicHandling::Error);
            partitions.push(within(&self.place, made).await?);
        }
        self.partitions = partitions;
        Ok(())
    }

    async fn partition_numbers(&mut self) -> Result<(Arc<Client>, Vec<i32>), LinkError> {
        let client = match &self.client {
            Some(client) => Arc::clone(client),
            None => {
                let client =
                    Arc::new(within(&self.place, builder(&self.options, &*self.around)?.build()).await?);
                self.client = Some(Arc::clone(&client));
                client
            }
        };
        let topics = within(&self.place, client.list_topics()).await?;
        let topic = topics.into_iter().find(|it| it.name == self.place.topic && !it.partitions.is_empty());
        let topic = topic.ok_or_else(|| LinkError::no_topic(&self.place))?;
        Ok((client, topic.partitions.into_iter().collect()))
    }

    /// Counts and logs an error, lets the connection go, and waits before the next attempt.
    pub async fn failed(&mut self, error: &LinkError) {
        self.stats.errors.add(error.why);
        self.client = None;
        self.partitions.clear();
        let count = match &self.said {
            Some((why, count)) if *why == error.why && *count < REMIND_AFTER => count + 1,
            _ => {
                self.around.log(&self.place.topic, &Notice::Failed { why: error.why, line: &error.line });
                0
            }
        };
        self.said = Some((error.why, count));
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }

    /// Logs that Kafka answers again after a failure.
    pub fn succeeded(&mut self) {
        self.pause = PAUSE;
        if self.said.take().is_some() {
            self.around.log(&self.place.topic, &Notice::Answers);
        }
    }

    /// Counts and logs what cannot be read. The broker answers, so the pauses before the next place are short again.
    fn pass_over(&mut self, partition: i32, offset: Option<i64>, error: &LinkError) {
        self.stats.errors.add(KafkaError::Unreadable);
        self.pause = PAUSE;
        self.around.log(&self.place.topic, &Notice::Unreadable { partition, offset, line: &error.line });
    }

    /// A reader of each partition. Waits for as long as there is no topic.
    pub async fn followers(&mut self) -> Vec<Follower> {
        loop {
            match self.try_followers().await {
                Ok(followers) => {
                    self.succeeded();
                    return followers;
                }
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// A reader of each partition.
    ///
    /// # Errors
    /// No broker answers, or there is no topic.
    pub async fn try_followers(&mut self) -> Result<Vec<Follower>, LinkError> {
        let (_, numbers) = self.partition_numbers().await?;
        let follower = |partition| Follower {
            link: Self::new(&self.options, &self.place.topic, &self.stats, &self.around),
            partition,
            client: None,
            attempts: 0,
        };
        Ok(numbers.into_iter().map(follower).collect())
    }

    /// The partitions that there are now, if the brokers say.
    pub async fn partitions_now(&mut self) -> Vec<i32> {
        match self.partition_numbers().await {
            Ok((_, numbers)) => numbers,
            Err(_) => {
                self.client = None;
                Vec::new()
            }
        }
    }
}

async fn within<T>(
    place: &ConfiguredTopic,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, LinkError> {
    match timeout(PATIENCE * 2, work).await {
        Ok(done) => done.map_err(|err| LinkError::of(&err, place)),
        Err(_) => Err(LinkError::silent()),
    }
}

/// Result of a fetch.
#[derive(Debug)]
pub enum Fetched {
    /// Messages, each with its offset and its value.
    Messages(Vec<(i64, Vec<u8>)>),
    /// Messages before this one were removed before they were read.
    Missed(i64),
    /// The topic is another one than before: it begins here.
    Recreated(i64),
    /// The message at this place cannot be read.
    Unreadable,
}

/// A reader of one partition.
#[derive(Debug)]
pub struct Follower {
    link: Link,
    /// Its number.
    pub partition: i32,
    client: Option<Arc<PartitionClient>>,
    attempts: u32,
}

impl Follower {
    /// Messages from `offset` on; `None`: from the first that there is. Waits for as long as it takes.
    pub async fn fetch(&mut self, offset: Option<i64>) -> Fetched {
        loop {
            match self.fetch_once(offset).await {
                Ok(fetched) => return fetched,
                Err(error) => self.failed(&error).await,
            }
        }
    }

    /// As `fetch`, without another attempt.
    ///
    /// # Errors
    /// Why there is nothing; hand it to [`Follower::failed`] before the next attempt.
    pub async fn fetch_once(&mut self, offset: Option<i64>) -> Result<Fetched, LinkError> {
        match self.try_fetch(offset).await {
            Ok(fetched) => {
                self.link.succeeded();
                self.attempts = 0;
                Ok(fetched)
            }
            Err(error) => {
                self.client = None;
                // The broker answers, but not with what can be read.
                self.attempts = if error.why == KafkaError::Broker { self.attempts + 1 } else { 0 };
                if self.attempts >= READ_ATTEMPTS && self.has_more(offset).await {
                    self.attempts = 0;
                    self.link.pass_over(self.partition, offset, &error);
                    return Ok(Fetched::Unreadable);
                }
                Err(error)
            }
        }
    }

    /// Counts and logs an error, and waits before the next attempt.
    pub async fn failed(&mut self, error: &LinkError) {
        self.link.failed(error).await;
    }

    /// The place behind the newest message.
    ///
    /// # Errors
    /// No broker answers.
    pub async fn end(&mut self) -> Result<i64, LinkError> {
        let client = self.connect().await?;
        within(&self.link.place, client.get_offset(OffsetAt::Latest)).await
    }

    async fn has_more(&mut self, offset: Option<i64>) -> bool {
        match offset {
            Some(offset) => self.end().await.is_ok_and(|end| offset < end),
            None => false,
        }
    }

    async fn connect(&mut self) -> Result<Arc<PartitionClient>, LinkError> {
        if let Some(client) = &self.client {
            return Ok(Arc::clone(client));
        }
        let (client, _) = self.link.partition_numbers().await?;
        let made =
            client.partition_client(&self.link.place.topic, self.partition, UnknownTopicHandling::Error);
        let client = Arc::new(within(&self.link.place, made).await?);
        self.client = Some(Arc::clone(&client));
        Ok(client)
    }

    async fn try_fetch(&mut self, offset: Option<i64>) -> Result<Fetched, LinkError> {
        let client = self.connect().await?;
        let place = &self.link.place;
        let bound = async |at| within(place, client.get_offset(at)).await;
        let Some(offset) = offset else { return Ok(Fetched::Recreated(bound(OffsetAt::Earliest).await?)) };
        let fetch = client.fetch_records(offset, 1..FETCH_BYTES, FETCH_WAIT_MS);
        let Ok(fetched) = timeout(PATIENCE * 2, fetch).await else { return Err(LinkError::silent()) };
        match fetched {
            Ok((records, end)) => {
                let messages: Vec<(i64, Vec<u8>)> =
                    records.into_iter().map(|it| (it.offset, it.record.value.unwrap_or_default())).collect();
                let next = messages.last().map_or(offset, |it| it.0 + 1);
                self.link.stats.note_lag(self.partition, not_done(messages.len(), next, end));
                // The records there hold no messages (the end of a transaction): the broker answers at once, again and
                // again.
                if messages.is_empty() && end > offset {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(Fetched::Messages(messages))
            }
            Err(Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. }) => {
                let (first, end) = (bound(OffsetAt::Earliest).await?, bound(OffsetAt::Latest).await?);
                Ok(match offset {
                    _ if offset < first => Fetched::Missed(first),
                    _ if offset > end => Fetched::Recreated(first),
                    // The broker has changed its mind.
                    _ => Fetched::Messages(Vec::new()),
                })
            }
            Err(Error::Request(RequestError::ReadError(err))) => {
                Err(LinkError::new(KafkaError::Broker, err.to_string()))
            }
            Err(err) => Err(LinkError::of(&err, place)),
        }
    }
}

/// Messages that are not handled yet after a fetch: the received ones, and those between them and the end. If none were received,
/// only markers of transactions are left, which are never delivered.
fn not_done(came: usize, next: i64, end: i64) -> u64 {
    if came == 0 { 0 } else { came as u64 + u64::try_from(end - next).unwrap_or(0) }
}

/// A client as the configuration says. Files are read again, since passwords and certificates change.
fn builder(options: &Brokers, around: &dyn Surroundings) -> Result<ClientBuilder, LinkError> {
    let backoff = BackoffConfig {
        init_backoff: FIRST_PAUSE,
        max_backoff: Duration::from_secs(1),
        base: 2.0,
        deadline: Some(PATIENCE),
    };
    let mut builder = ClientBuilder::new(options.brokers.clone())
        .client_id(options.client_id.as_str())
        .max_message_size(ANSWER_BYTES)
        .backoff_config(backoff);
    if let Some(tls) = &options.tls {
        builder = builder
            .tls_config(Arc::new(tls_config(&options.table, tls, around).map_err(LinkError::credentials)?));
    }
    if let Some(sasl) = &options.sasl {
        let (table, file) = (&options.table, sasl.password_file.display());
        let password = fs::read_to_string(&sasl.password_file)
            .map_err(|err| LinkError::credentials(format!("[{table}.sasl] password_file = {file}: {err}")))?;
        let credentials =
            Credentials::new(sasl.user.clone(), password.trim_end_matches(['\r', '\n']).to_owned());
        builder = builder.sasl_config(match sasl.mechanism {
            Mechanism::Plain => SaslConfig::Plain(credentials),
            Mechanism::ScramSha256 => SaslConfig::ScramSha256(credentials),
            Mechanism::ScramSha512 => SaslConfig::ScramSha512(credentials),
        });
    }
    Ok(builder)
}

/// TLS as the configuration says.
///
/// # Errors
/// One line with the fix.
pub fn tls_config(
    table: &str,
    options: &KafkaTls,
    around: &dyn Surroundings,
) -> Result<rustls::ClientConfig, String> {
    let table = format!("{table}.tls");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|err| err.to_string())?;
    let config = match &options.ca {
        Some(file) => config.dangerous().with_custom_certificate_verifier(around.verifier(&table, file)?),
        None => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(format!("no certificate authorities: give [{table}] ca"));
            }
            config.with_root_certificates(roots)
        }
    };
    let (Some(certificate), Some(key)) = (&options.certificate, &options.key) else {
        return Ok(config.with_no_client_auth());
    };
    let own = Arc::unwrap_or_clone(around.pair(&table, certificate, key)?);
    Ok(config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))))
}

/// A message of this time.
pub fn record(key: Option<Vec<u8>>, value: Vec<u8>, now: WallTime) -> Record {
    let timestamp = DateTime::from_timestamp_millis(now.unix_ms()).unwrap_or_default();
    Record { key, value: Some(value), headers: BTreeMap::new(), timestamp }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[derive(Debug)]
    struct Nothing;

    impl Surroundings for Nothing {
        fn log(&self, _: &str, _: &Notice<'_>) {}
        fn verifier(&self, _: &str, _: &Path) -> Result<Arc<dyn ServerCertVerifier>, String> {
            Err(String::new())
        }
        fn pair(&self, _: &str, _: &Path, _: &Path) -> Result<Arc<CertifiedKey>, String> {
            Err(String::new())
        }
    }

    fn link(broker: &str) -> Link {
        let options = Brokers {
            table: "kafka".to_owned(),
            brokers: vec![broker.to_owned()],
            client_id: "test".to_owned(),
            compression: Compression::None,
            tls: None,
            sasl: None,
        };
        let around: Arc<dyn Surroundings> = Arc::new(Nothing);
        Link::new(&Arc::new(options), "topic", &Arc::default(), &around)
    }

    #[test]
    fn lag_is_what_came_and_what_is_behind_it() {
        for (came, next, end, lag) in [(0, 7, 7, 0), (0, 7, 8, 0), (2, 9, 9, 2), (2, 9, 20, 13), (2, 9, 8, 2)]
        {
            assert_eq!(not_done(came, next, end), lag, "{came} {next} {end}");
        }
        let stats = LinkStats::default();
        stats.note_done(0, 1);
        stats.note_lag(0, 13);
        stats.note_done(0, 2);
        assert_eq!(stats.lag(), 11);
        stats.note_done(0, 20);
        assert_eq!(stats.lag(), 0);
    }

    #[test]
    fn pauses_are_short_again_behind_what_cannot_be_read() {
        let mut link = link("127.0.0.1:9");
        link.pause = MAX_PAUSE;
        link.pass_over(0, Some(7), &LinkError::silent());
        assert_eq!(link.pause, PAUSE);
        assert_eq!(link.stats.errors.labelled().find(|it| it.1 > 0), Some(("unreadable", 1)));
    }

    #[test]
    fn an_answer_without_bounds_is_not_kept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let _ = stream.read(&mut [0; 1024]);
                let bytes = ANSWER_BYTES + 1;
                let _ = stream.write_all(&u32::try_from(bytes).unwrap().to_be_bytes());
                let _ = stream.write_all(&vec![0; bytes]);
                let _ = stream.read(&mut [0; 1]);
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(link(&address).try_followers()).unwrap_err();
        assert!(error.line.contains("Message too large"), "{error}");
        assert_eq!(error.why(), KafkaError::Broker);
    }
}
