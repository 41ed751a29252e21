"""Publishes each line of standard input as one structured CloudEvent, as a client in another language would.

The broker's address is in AMQP_URL. Ends with an error unless the broker confirms every message.
"""

import os
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.confirm_delivery()
properties = pika.BasicProperties(content_type="application/cloudevents+json", delivery_mode=2)
for line in sys.stdin.read().splitlines():
    channel.basic_publish("tokencache.activity", "0", line.encode(), properties, mandatory=True)
connection.close()
