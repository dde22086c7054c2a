"""A store that others wrote (moto's S3), with a bucket `films`; takes commands from standard input and answers each by a line.

    put KEY FILE       uploads a file
    delete KEY         removes an object

The first line printed is the store's URL. It ends with its input.
"""

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
print(url, flush=True)
for line in sys.stdin:
    verb, key, *rest = line.rstrip("\n").split("\t")
    if verb == "put":
        with open(rest[0], "rb") as file:
            client.put_object(Bucket="films", Key=key, Body=file.read())
    else:
        client.delete_object(Bucket="films", Key=key)
    print("done", flush=True)
server.stop()
