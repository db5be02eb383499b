"""docker-compose.yml as both Composes resolve it, and the files that it gives to Prometheus and Grafana."""

import json
import pathlib
import re
import shutil
import tempfile
import tomllib
import urllib.parse

import yaml

from . import configs
from .tools import Skipped, Tools, environment, run, said, seconds, skipped

PROFILE = ["--profile", "monitoring"]


def complaints(root: pathlib.Path, tools: Tools):
    done = run([tools.compose_v2(), "--project-directory", root, *PROFILE, "config", "--format", "json"],
               cwd=root, env=environment())
    # What is obsolete or unknown is a warning.
    if done.returncode != 0 or done.stderr:
        yield f"Compose v2: {said(done)}"
        return
    resolved = json.loads(done.stdout)
    try:
        old = run([tools.compose_v1(), *PROFILE, "config"], cwd=root, env=environment())
        if old.returncode != 0 or old.stderr:
            yield f"docker-compose 1.29: {said(old)}"
        elif missing := set(resolved["services"]) ^ set(yaml.safe_load(old.stdout)["services"]):
            yield f"the two Composes disagree on {missing}"
    except Skipped as what:
        if skipped(str(what)):
            yield f"cannot be checked without {what}"
    for name, service in resolved["services"].items():
        for complaint in rights(name, service, root):
            yield f"{name}: {complaint}"
    yield from natshook(resolved, root)
    yield from prometheus(resolved, root, tools)
    yield from grafana(resolved, root)


def rights(name: str, service: dict, root: pathlib.Path):
    for port in service.get("ports", []):
        if port.get("host_ip") != "127.0.0.1":
            yield f"the port {port['target']} is open to others than this machine"
    if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
        yield "it keeps capabilities, or may gain privileges"
    if not service.get("read_only") and name != "grafana":
        yield "its file system can be written to"
    if any(key in service for key in ("privileged", "network_mode", "pid", "ipc", "cap_add", "devices")):
        yield "it has rights of the host"
    if not service.get("mem_limit") or not service.get("pids_limit"):
        yield "its memory or processes have no limit"
    if not re.search(r":v?\d+\.\d+\.\d+$|^natshook:dev$", service["image"]):
        yield f"the image {service['image']} is no exact version"
    for volume in service.get("volumes", []):
        if volume["type"] == "bind" and not pathlib.Path(volume["source"]).exists():
            yield f"{volume['source']} does not exist"
        if volume["type"] == "bind" and not volume.get("read_only"):
            yield f"{volume['source']} can be written to"


def natshook(resolved: dict, root: pathlib.Path):
    services = resolved["services"]
    service, config = services["natshook"], tomllib.loads(configs.compose(root)[0])
    least = seconds(configs.grace_seconds(configs.compose(root)[0])) + configs.AFTER_GRACE_SECONDS
    if seconds(service["stop_grace_period"]) < least:
        yield f"natshook: stop_grace_period is {service['stop_grace_period']}, a drain needs {least:.0f} s"
    (port,) = service["ports"]
    if config["admin"]["listen"] != f"0.0.0.0:{port['target']}":
        yield f"natshook: admin.listen is {config['admin']['listen']}, the published port is {port['target']}"
    wanted = [*config["nats"]["servers"], *(target["url"] for target in config["targets"])]
    for address in {urllib.parse.urlsplit(url).netloc for url in wanted}:
        host, port = address.split(":")
        if host not in services:
            yield f"natshook: {host} is no service"
        elif not set(services[host]["networks"]) & set(service["networks"]):
            yield f"natshook: {host} is on no network of natshook's"
        elif host == "inbox" and services[host]["command"][:3] != ["inbox", "--listen", f"0.0.0.0:{port}"]:
            yield f"natshook: the inbox does not listen on {port}"
    if set(services["inbox"]["networks"]) & set(services["nats"]["networks"]):
        yield "inbox: it reaches the broker"


def target_of(service: dict, source: pathlib.Path):
    """Where a file of the repository is in the container, or nowhere."""
    for volume in service["volumes"]:
        if volume["type"] == "bind" and pathlib.Path(volume["source"]).resolve() == source.resolve():
            return volume["target"]
    return None


def prometheus(resolved: dict, root: pathlib.Path, tools: Tools):
    service, text = resolved["services"]["prometheus"], (root / "deploy/compose/prometheus.yml").read_text()
    if target_of(service, root / "deploy/compose/prometheus.yml") != "/etc/prometheus/prometheus.yml":
        yield "prometheus: its config is mounted elsewhere"
    if target_of(service, root / "deploy/prometheus/alerts.yml") != "/etc/prometheus/alerts.yml":
        yield "prometheus: the alerts are mounted elsewhere"
    (job,) = yaml.safe_load(text)["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    (admin,) = resolved["services"]["natshook"]["ports"]
    if job["job_name"] != "natshook" or found["names"] != ["natshook"] or found["port"] != admin["target"]:
        yield f"prometheus: it scrapes {job['job_name']} at {found}"
    token = job["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    if token not in {secret["source"] for secret in service["secrets"]}:
        yield f"prometheus: it does not have the secret {token}"
    try:
        promtool = tools.installed("promtool", "promtool (Debian, Ubuntu: apt-get install prometheus)")
    except Skipped as what:
        if skipped(str(what)):
            yield f"prometheus: cannot be checked without {what}"
        return
    with tempfile.TemporaryDirectory() as work:
        pathlib.Path(work, token).write_text("token\n")
        pathlib.Path(work, "prometheus.yml").write_text(text.replace("/run/secrets/", work + "/"))
        shutil.copy(root / "deploy/prometheus/alerts.yml", work)
        done = run([promtool, "check", "config", pathlib.Path(work, "prometheus.yml")])
        if done.returncode != 0:
            yield f"prometheus: promtool check config: {said(done)}"


# Every key that the two files use, as Grafana documents them: it ignores what it does not know.
# https://grafana.com/docs/grafana/latest/administration/provisioning
SOURCE = {"name", "uid", "type", "access", "url", "isDefault", "editable", "jsonData"}
SOURCE_DATA = {"httpMethod", "timeInterval"}
PROVIDER = {"name", "folder", "type", "disableDeletion", "allowUiUpdates", "updateIntervalSeconds", "options"}


def grafana(resolved: dict, root: pathlib.Path):
    """No schema of Grafana's provisioning can be had from a registry, so this says what ours has to be."""
    services, folder = resolved["services"], root / "deploy/grafana/provisioning"
    if target_of(services["grafana"], folder) != "/etc/grafana/provisioning":
        yield "grafana: the provisioning is mounted elsewhere"
    sources = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())
    (source,) = sources["datasources"]
    if sources.keys() != {"apiVersion", "datasources"} or not source.keys() <= SOURCE or not (
            source["jsonData"].keys() <= SOURCE_DATA):
        yield "grafana: the data source has keys that Grafana does not know"
    url = urllib.parse.urlsplit(source["url"])
    if source["type"] != "prometheus" or url.hostname not in services or not (
            {str(url.port)} <= {str(port["target"]) for port in services[url.hostname]["ports"]}):
        yield f"grafana: the data source is {source['type']} at {source['url']}, which is no service"
    dashboards = yaml.safe_load((folder / "dashboards/natshook.yml").read_text())
    (provider,) = dashboards["providers"]
    if dashboards.keys() != {"apiVersion", "providers"} or not provider.keys() <= PROVIDER:
        yield "grafana: the dashboards' provider has keys that Grafana does not know"
    path = target_of(services["grafana"], root / "deploy/grafana/natshook.json") or ""
    if provider["type"] != "file" or str(pathlib.PurePosixPath(path).parent) != provider["options"]["path"]:
        yield f"grafana: dashboards are looked for in {provider['options']['path']}, ours is {path or 'not mounted'}"
    dashboard = json.loads((root / "deploy/grafana/natshook.json").read_text())
    kinds = {v["query"] for v in dashboard["templating"]["list"] if v["type"] == "datasource"}
    if dashboard["uid"] != "natshook" or kinds != {source["type"]}:
        yield "grafana: the dashboard has another uid, or wants another kind of data source"
    secrets = {secret["source"] for secret in services["grafana"]["secrets"]}
    password = services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"].removeprefix("/run/secrets/")
    if password not in secrets:
        yield f"grafana: it does not have the secret {password}"
