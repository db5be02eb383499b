"""The config in each setup: taken out of its file, and judged by the real `natshook check`.

The secrets that it names as files stand elsewhere at run time, so they are made in a folder here, and the paths in the
text are changed to that folder: only a secret that the setup really hands over is there.
"""

import pathlib
import re
import tempfile
import tomllib

import yaml

from .tools import Tools, environment, run, said

SECRET = "a-secret-of-some-length"
SIGNING = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
# How long after the grace period natshook may go on: acks, and the last spans.
AFTER_GRACE_SECONDS = 8
GRACE_DEFAULT = "35s"


def compose(root: pathlib.Path) -> tuple[str, str, set]:
    """The text of the config, the folder of its secrets, and those that are handed over."""
    text = (root / "deploy/compose/natshook.toml").read_text()
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    return text, "/run/secrets", set(services["natshook"]["secrets"])


def inbox(root: pathlib.Path) -> tuple[str, str, set]:
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    return (root / "deploy/compose/inbox.toml").read_text(), "/run/secrets", set(services["inbox"]["secrets"])


def kubernetes(root: pathlib.Path) -> tuple[str, str, set]:
    base = root / "deploy/kubernetes"
    text = yaml.safe_load((base / "base/configmap.yaml").read_text())["data"]["natshook.toml"]
    keys = yaml.safe_load((base / "secret.example.yaml").read_text())["stringData"]
    pod = yaml.safe_load((base / "base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    (mount,) = [m for m in pod["containers"][0]["volumeMounts"] if m["name"] == "secrets"]
    return text, mount["mountPath"], set(keys)


def systemd(root: pathlib.Path) -> tuple[str, str, set]:
    unit = (root / "deploy/systemd/natshook.service").read_text()
    names = re.findall(r"^LoadCredential=([^:\n]+):", unit, re.MULTILINE)
    return (root / "deploy/systemd/natshook.toml").read_text(), "/run/credentials/natshook.service", set(names)


SETUPS = {"compose": compose, "inbox": inbox, "kubernetes": kubernetes, "systemd": systemd}


def grace_seconds(text: str) -> str:
    return tomllib.loads(text).get("shutdown", {}).get("grace_period", GRACE_DEFAULT)


def complaints(root: pathlib.Path, tools: Tools):
    for name, setup in SETUPS.items():
        text, folder, secrets = setup(root)
        with tempfile.TemporaryDirectory() as work:
            config = placed(text, folder, secrets, pathlib.Path(work))
            done = run([tools.natshook, "check", "--config", config], env=environment(**overrides(root, name)))
            if done.returncode != 0:
                yield f"{name}: natshook check: {said(done)}"
        named = set(re.findall(re.escape(folder) + r"/([\w.-]+)", text))
        for unused in sorted(secrets - named):
            yield f"{name}: the secret {unused} is handed over, and the config does not name it"


def placed(text: str, folder: str, secrets: set, work: pathlib.Path) -> pathlib.Path:
    """The config and its secrets in `work`."""
    for secret in secrets:
        (work / secret).write_text((SIGNING if "signing" in secret else SECRET) + "\n")
    config = work / "natshook.toml"
    config.write_text(text.replace(folder + "/", f"{work}/"))
    return config


def overrides(root: pathlib.Path, setup: str) -> dict:
    """Keys that production sets in the environment."""
    if setup != "kubernetes":
        return {}
    patch = yaml.safe_load((root / "deploy/kubernetes/overlays/production/deployment.yaml").read_text())
    return {v["name"]: v["value"] for v in patch["spec"]["template"]["spec"]["containers"][0]["env"]}
