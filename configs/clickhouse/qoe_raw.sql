-- Measurements of players, as boxes write them to the topic qoe-metrics: docs/kafka.md says what each column is.
-- A row that comes twice is merged away by its event_id; queries that must not see it before that say FINAL.
CREATE TABLE IF NOT EXISTS qoe_raw
(
    event_id String,
    timestamp DateTime64(3, 'UTC'),
    received_at DateTime64(3, 'UTC'),
    node LowCardinality(String),
    session_id String,
    content_id String,
    version UInt8,
    mode LowCardinality(String),
    event LowCardinality(String),
    url String,
    status UInt16,
    bytes UInt64,
    cache LowCardinality(String),
    ttfb_ms UInt32,
    total_ms UInt32,
    object_type LowCardinality(String),
    stream_type LowCardinality(String),
    format LowCardinality(String),
    bitrate_kbps UInt32,
    top_bitrate_kbps UInt32,
    buffer_ms UInt32,
    throughput_kbps UInt32,
    object_ms UInt32,
    latency_ms UInt32,
    playback_rate Float32,
    state LowCardinality(String),
    starved UInt8,
    stall_count UInt32,
    stall_ms UInt32,
    startup_ms Nullable(UInt32),
    basis LowCardinality(String),
    error String,
    user_agent String
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMMDD(timestamp)
ORDER BY (content_id, session_id, timestamp, event_id)
TTL toDateTime(timestamp) + INTERVAL 90 DAY;

-- The topic. Change the brokers; messages that cannot be read come out of the column _error instead of stopping the consumer.
CREATE TABLE IF NOT EXISTS qoe_queue
(
    event_id String,
    timestamp DateTime64(3, 'UTC'),
    received_at DateTime64(3, 'UTC'),
    node LowCardinality(String),
    session_id String,
    content_id String,
    version UInt8,
    mode LowCardinality(String),
    event LowCardinality(String),
    url String,
    status UInt16,
    bytes UInt64,
    cache LowCardinality(String),
    ttfb_ms UInt32,
    total_ms UInt32,
    object_type LowCardinality(String),
    stream_type LowCardinality(String),
    format LowCardinality(String),
    bitrate_kbps UInt32,
    top_bitrate_kbps UInt32,
    buffer_ms UInt32,
    throughput_kbps UInt32,
    object_ms UInt32,
    latency_ms UInt32,
    playback_rate Float32,
    state LowCardinality(String),
    starved UInt8,
    stall_count UInt32,
    stall_ms UInt32,
    startup_ms Nullable(UInt32),
    basis LowCardinality(String),
    error String,
    user_agent String
)
ENGINE = Kafka
SETTINGS kafka_broker_list = 'kafka:9092', kafka_topic_list = 'qoe-metrics', kafka_group_name = 'clickhouse',
    kafka_format = 'JSONEachRow', kafka_handle_error_mode = 'stream';

CREATE MATERIALIZED VIEW IF NOT EXISTS qoe_consumer TO qoe_raw AS
SELECT event_id, timestamp, received_at, node, session_id, content_id, version, mode, event, url, status, bytes, cache, ttfb_ms, total_ms, object_type, stream_type, format, bitrate_kbps, top_bitrate_kbps, buffer_ms, throughput_kbps, object_ms, latency_ms, playback_rate, state, starved, stall_count, stall_ms, startup_ms, basis, error, user_agent
FROM qoe_queue
WHERE length(_error) = 0;
