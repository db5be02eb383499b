"""The same with a durable consumer of JetStream: what it has not forwarded when it ends, it forwards when it starts again."""

import asyncio
import os
import signal
from urllib.request import Request, urlopen

import nats

URL, TOKEN = os.environ["ORDERS_URL"], os.environ["ORDERS_TOKEN"]
DURABLE = os.environ.get("DURABLE", "forwarder")


def post(message):
    own = f"{message.metadata.stream}-{message.metadata.sequence.stream}"
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {TOKEN}",
        "webhook-id": (message.headers or {}).get("Nats-Msg-Id", own),  # as natshook names it
    }
    urlopen(Request(URL, message.data, headers), timeout=10).close()


async def main():
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    consumer = await connection.jetstream().pull_subscribe("orders.>", durable=DURABLE)
    print("forwarding", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while not stop.is_set():
        try:
            messages = await consumer.fetch(10, timeout=1)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            try:
                await asyncio.to_thread(post, message)
                await message.ack_sync()
            except OSError as error:
                print("failed:", error, flush=True)
                await message.nak(delay=5)
    await connection.close()


asyncio.run(main())
