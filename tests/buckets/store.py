"""A store that others wrote (moto's S3), with a bucket `films`; takes commands from standard input and answers each by a line.

    put KEY FILE       uploads a file
    parts KEY FILE     uploads it in parts of 5 MiB
    delete KEY         removes an object
    events             answers by a JSON list of the events since the last one, as the store has written them to a queue of SQS

The first line printed is the store's URL. It ends with its input.
"""

import json
import sys

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
style = Config(s3={"addressing_style": "path"})
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="story",
                      aws_secret_access_key="secret of the story", config=style)
client.create_bucket(Bucket="films")
queues = boto3.client("sqs", endpoint_url=url, region_name="us-east-1", aws_access_key_id="story",
                      aws_secret_access_key="secret of the story")
queue = queues.create_queue(QueueName="events")["QueueUrl"]
arn = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
kinds = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
client.put_bucket_notification_configuration(Bucket="films",
                                             NotificationConfiguration={"QueueConfigurations": [kinds]})


def events():
    while True:
        found = queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        if not found:
            return
        for it in found:
            queues.delete_message(QueueUrl=queue, ReceiptHandle=it["ReceiptHandle"])
            yield it["Body"]


def parts(key, body):
    upload = client.create_multipart_upload(Bucket="films", Key=key)["UploadId"]
    step, done = 5 << 20, []
    for number, at in enumerate(range(0, len(body), step), 1):
        part = client.upload_part(Bucket="films", Key=key, UploadId=upload, PartNumber=number, Body=body[at:at + step])
        done.append({"PartNumber": number, "ETag": part["ETag"]})
    client.complete_multipart_upload(Bucket="films", Key=key, UploadId=upload, MultipartUpload={"Parts": done})


print(url, flush=True)
for line in sys.stdin:
    verb, *rest = line.rstrip("\n").split("\t")
    if verb == "events":
        print(json.dumps(list(events())), flush=True)
        continue
    if verb == "delete":
        client.delete_object(Bucket="films", Key=rest[0])
    else:
        with open(rest[1], "rb") as file:
            body = file.read()
        if verb == "put":
            client.put_object(Bucket="films", Key=rest[0], Body=body)
        else:
            parts(rest[0], body)
    print("done", flush=True)
server.stop()
