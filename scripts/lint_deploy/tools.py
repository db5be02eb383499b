"""The programs that the checks run, and how they are run. Knows nothing of what is checked."""

import dataclasses
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys


class Skipped(Exception):
    """A program that this machine does not have."""


@dataclasses.dataclass
class Tools:
    fetched: pathlib.Path  # bin/ has kubectl and Compose v2
    natshook: pathlib.Path

    def kubectl(self) -> str:
        return str(self.fetched / "bin" / "kubectl")

    def compose_v2(self) -> str:
        return str(self.fetched / "bin" / "docker-compose")

    def compose_v1(self) -> str:
        path = self.installed("docker-compose", "docker-compose 1.29 (Debian 12: apt-get install docker-compose)")
        version = run([path, "version", "--short"]).stdout.strip()
        if not version.startswith("1."):
            raise Skipped(f"docker-compose 1.29: the one here is {version}")
        return path

    @staticmethod
    def installed(program: str, what: str) -> str:
        path = shutil.which(program)
        if path is None:
            raise Skipped(what)
        return path


def run(command: list, **more) -> subprocess.CompletedProcess:
    """Runs it to its end, within two minutes, and keeps what it says."""
    return subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False, **more,
    )


def said(done: subprocess.CompletedProcess) -> str:
    """What a failed program said, on one line."""
    return " ".join((done.stderr + " " + done.stdout).split()) or f"exit code {done.returncode}"


def environment(**more) -> dict:
    """The environment without what would change a config or a compose file behind our back."""
    steers = ("NATSHOOK", "COMPOSE", "NATS_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
    return {name: value for name, value in os.environ.items() if not name.startswith(steers)} | more


def seconds(text) -> float:
    """"35s", "1m30s", "45" or 45 in seconds."""
    units = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)\s*([a-z]*)", str(text)))


def tell(line: str) -> None:
    print(f"lint-deploy: {line}", flush=True)


@functools.cache
def skipped(what: str) -> bool:
    """Says so, once; whether that is an error."""
    if os.environ.get("NATSHOOK_TESTS_REQUIRE_TOOLS"):
        print(f"lint-deploy: cannot check without {what}", file=sys.stderr)
        return True
    tell(f"skipped: there is no {what}")
    return False
