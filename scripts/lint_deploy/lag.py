"""What KEDA will find: natshook with the ConfigMap's config at a real broker, asked as the nats-jetstream scaler asks.

A stream or consumer that is not there would count as a backlog of the whole stream, and scale to the maximum.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import time
import urllib.request

import yaml

from . import configs
from .tools import Skipped, Tools, environment

WAIT_SECONDS = 20


def complaints(root: pathlib.Path, tools: Tools):
    server = os.environ.get("NATSHOOK_NATS_SERVER")
    if not server:
        raise Skipped("NATSHOOK_NATS_SERVER (scripts/provision prints one)")
    scaled = yaml.safe_load((root / "deploy/kubernetes/components/autoscaling/scaledobject.yaml").read_text())
    with contextlib.ExitStack() as ends:
        work = pathlib.Path(ends.enter_context(tempfile.TemporaryDirectory()))
        nats, monitoring = broker(server, work, ends)
        connector(root, tools, work, nats, ends)
        for trigger in scaled["spec"]["triggers"]:
            asked = trigger["metadata"]
            address = f"{monitoring}/jsz?acc={asked['account']}&consumers=true&config=true"
            until = time.monotonic() + WAIT_SECONDS
            while (found := lag(address, asked)) is None and time.monotonic() < until:
                time.sleep(0.1)
            if found is None:
                yield f"{asked['account']} has no consumer {asked['consumer']} on {asked['stream']}"


def broker(server: str, work: pathlib.Path, ends: contextlib.ExitStack) -> tuple:
    """The addresses of its clients' and its monitoring port. Its user is the ConfigMap's."""
    started(ends, [server, "-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-js", "-sd", work / "js", "--user", "natshook",
                   "--pass", configs.SECRET, "--ports_file_dir", work])
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        for file in work.glob("*.ports"):
            with contextlib.suppress(ValueError, KeyError, IndexError):
                ports = json.loads(file.read_text())
                return ports["nats"][0], ports["monitoring"][0]
        time.sleep(0.05)
    raise RuntimeError("nats-server did not start")


def connector(root: pathlib.Path, tools: Tools, work: pathlib.Path, nats: str, ends: contextlib.ExitStack) -> None:
    text, folder, secrets = configs.kubernetes(root)
    config = configs.placed(text, folder, secrets, work)
    here = config.read_text().replace("nats://nats.nats.svc.cluster.local:4222", nats)
    config.write_text(here.replace("0.0.0.0:8822", "127.0.0.1:0"))
    started(ends, [tools.natshook, "run", "--config", config], env=environment())


def started(ends: contextlib.ExitStack, command: list, **more) -> None:
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    ends.callback(process.wait)
    ends.callback(process.kill)


def lag(address: str, asked: dict):
    """The consumer's lag, or nothing where there is no such consumer."""
    with urllib.request.urlopen(address, timeout=5) as answer:
        accounts = json.load(answer).get("account_details", [])
    for account in accounts:
        for stream in account.get("stream_detail") or []:
            for consumer in stream.get("consumer_detail") or []:
                if (account["name"], stream["name"], consumer["name"]) == (
                        asked["account"], asked["stream"], asked["consumer"]):
                    return consumer["num_pending"] + consumer["num_ack_pending"]
    return None
