"""Registers a webhook with natshook, by one NATS request. Run it as often as you like: it changes what differs."""

import asyncio
import json
import os
import sys

import nats

TARGET = {
    "name": "orders",
    "subjects": ["orders.>"],
    "url": os.environ["WEBHOOK_URL"],
    "signing": {"secrets": [os.environ["WEBHOOK_SECRET"]]},
}


async def main():
    connection = await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222"))
    question = json.dumps({"target": TARGET}).encode()
    answer = await connection.request("natshook.targets.put", question, timeout=5)
    await connection.close()
    said = json.loads(answer.data)
    if "Nats-Service-Error-Code" in (answer.headers or {}):
        for wrong in said.get("errors", []):
            print(f"{wrong['key']}: {wrong['error']}", file=sys.stderr)
        sys.exit(f"{said['code']}: {said['error']}")
    print(f"{said['name']}: registered, revision {said['revision']}")


asyncio.run(main())
