"""Forwards orders to a webhook: the program that natshook takes the place of."""

import asyncio
import os
import signal
from urllib.request import Request, urlopen

import nats

URL, TOKEN = os.environ["ORDERS_URL"], os.environ["ORDERS_TOKEN"]


def post(message):
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {TOKEN}",
    }
    urlopen(Request(URL, message.data, headers), timeout=10).close()


async def forward(message):
    for wait in (1, 5, 30, None):
        try:
            return await asyncio.to_thread(post, message)
        except OSError as error:  # no answer, or none that is a success
            print("failed:", error, flush=True)
        if wait is not None:
            await asyncio.sleep(wait)
    print("LOST:", message.subject, message.data, flush=True)


async def main():
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    await connection.subscribe("orders.>", queue="forwarder", cb=forward)
    print("forwarding", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await connection.drain()


asyncio.run(main())
