"""Copies with one mistake each, and what has to be said of it. A check that lets one pass is broken itself.

Each is a file, a text in it that stands there exactly once, what is put in its place, and a part of the complaint.
"""

import pathlib
import shutil
import tempfile

from . import compose, configs, kubernetes, lag, schemas, systemd
from .tools import Tools

COMPOSE, BASE = "docker-compose.yml", "deploy/kubernetes/base/"
PRODUCTION = "deploy/kubernetes/overlays/production/"
MONITORING, SCALED = "deploy/kubernetes/components/monitoring/", "deploy/kubernetes/components/autoscaling/"
UNIT = "deploy/systemd/natshook.service"

BROKEN = {
    "compose": [
        (COMPOSE, "    stop_grace_period: 45s\n", "    stop_grace_periode: 45s\n", "Compose v2"),
        (COMPOSE, "services:\n", "version: '3.9'\nservices:\n", "obsolete"),
        (COMPOSE, "127.0.0.1:${NATS_PORT", "${NATS_PORT", "open to others"),
        (COMPOSE, "  cap_drop: [ALL]\n", "", "keeps capabilities"),
        (COMPOSE, "image: nats:2.12.8", "image: nats:latest", "no exact version"),
        (COMPOSE, "stop_grace_period: 45s", "stop_grace_period: 30s", "a drain needs 43 s"),
        (COMPOSE, "./deploy/compose/nats.conf:", "./deploy/compose/nats.cfg:", "does not exist"),
        (COMPOSE, '"0.0.0.0:8080"', '"0.0.0.0:8081"', "does not listen on 8080"),
        (COMPOSE, "    networks: [webhooks]", "    networks: [webhooks, broker]", "reaches the broker"),
        (COMPOSE, "/etc/prometheus/alerts.yml:ro", "/etc/alerts.yml:ro", "alerts are mounted elsewhere"),
        ("deploy/compose/prometheus.yml", "dns_sd_configs", "dns_configs", "dns_sd_configs"),
        ("deploy/compose/prometheus.yml", "credentials_file", "credential_file", "credentials_file"),
        ("deploy/compose/prometheus.yml", "refresh_interval: 15s", "refresh_interval: soon", "promtool"),
        ("deploy/grafana/provisioning/datasources/prometheus.yml", "prometheus:9090", "prometheus:9091", "no service"),
        ("deploy/grafana/provisioning/datasources/prometheus.yml", "isDefault", "default", "does not know"),
        ("deploy/grafana/provisioning/dashboards/natshook.yml", "grafana/dashboards", "dashboards", "looked for"),
    ],
    "kubernetes": [
        (BASE + "deployment.yaml", "revisionHistoryLimit", "revisionHistory", "'revisionHistory' was unexpected"),
        (BASE + "deployment.yaml", "maxSurge: 1", "maxSurge: [1]", "is not valid under"),
        (BASE + "deployment.yaml", "PrivilegeEscalation: false", "PrivilegeEscalation: true", "securityContext"),
        (BASE + "deployment.yaml", "drop: [ALL]", "drop: [NET_RAW]", "capabilities"),
        (BASE + "deployment.yaml", "PeriodSeconds: 45", "PeriodSeconds: 30", "a drain needs 43"),
        (BASE + "deployment.yaml", "path: /readyz", "path: /healthz", "readinessProbe asks"),
        (BASE + "deployment.yaml", "secretName: natshook", "secretName: secrets", "is not the Secret"),
        (BASE + "deployment.yaml", "containerPort: 8822", "containerPort: 8823", "the port is 8823"),
        (BASE + "deployment.yaml", "  replicas: 1\n", "  replicas: 1\n  replicas: 2\n", "given twice"),
        (BASE + "service.yaml", "targetPort: admin", "targetPort: http", "does not have"),
        (BASE + "networkpolicy.yaml", "port: 4222", "port: 4223", "does not let natshook reach"),
        (BASE + "networkpolicy.yaml", "- port: 8443", "- port: 9443", "to the public"),
        (BASE + "kustomization.yaml", "labels:\n", "label:\n", "kustomize"),
        (PRODUCTION + "deployment.yaml", "name: natshook\nspec", "name: other\nspec", "kustomize"),
        (PRODUCTION + "poddisruptionbudget.yaml", "Labels:\n      app", "Labels:\n      app2", "Budget selects"),
        (PRODUCTION + "poddisruptionbudget.yaml", "policy/v1\n", "policy/v1beta1\n", "Couldn't find schema"),
        (MONITORING + "servicemonitor.yaml", "scrapeTimeout:", "timeout:", "'timeout' was unexpected"),
        (MONITORING + "servicemonitor.yaml", "interval: 15s", "interval: 15 seconds", "does not match"),
        (MONITORING + "servicemonitor.yaml", "- port: admin", "- port: metrics", "scrapes the port"),
        (MONITORING + "servicemonitor.yaml", "key: admin-token", "key: token", "the ServiceMonitor's token"),
        (MONITORING + "servicemonitor.yaml", "coreos.com/v1\n", "coreos.com/v2\n", "apiVersion"),
        (MONITORING + "prometheusrule.yaml", "NatshookGone", "NatshookAway", "is not deploy/prometheus"),
        (MONITORING + "prometheusrule.yaml", "alert: NatshookGone", "alarm: NatshookGone", "'alarm' was unexpected"),
        ("deploy/prometheus/alerts.yml", "alert: NatshookGone", "alert: NatshookAway", "is not deploy/prometheus"),
        (SCALED + "scaledobject.yaml", "minReplicaCount:", "minReplicas:", "'minReplicas' was unexpected"),
        (SCALED + "scaledobject.yaml", "pollingInterval: 15", "pollingInterval: 15s", "not of type 'integer'"),
        (SCALED + "scaledobject.yaml", "natshook-policy", "natshook-orders", "consumers are"),
        (SCALED + "scaledobject.yaml", "stream: EVENTS", "stream: ORDERS", "follows the stream ORDERS"),
        (SCALED + "scaledobject.yaml", "        lagThreshold", "        lagTreshold", "lagTreshold"),
        (SCALED + "scaledobject.yaml", "    name: natshook\n  min", "    name: other\n  min", "scales"),
        (SCALED + "kustomization.yaml", "op: remove", "op: test", "kustomize"),
    ],
    "systemd": [
        (UNIT, "MemoryDenyWriteExecute=yes", "MemoryDenyWriteExec=yes", "Unknown key"),
        (UNIT, "ProtectSystem=strict", "ProtectSystem=strictly", "strictly"),
        (UNIT, "CapabilityBoundingSet=\n", "", "Overall exposure"),
        (UNIT, "TimeoutStopSec=45s", "TimeoutStopSec=30s", "a drain needs 43 s"),
        (UNIT, "Status=2 78", "Status=2", "again and again"),
        (UNIT, "ExecReload=/bin/kill -HUP $MAINPID", "", "SIGHUP"),
    ],
    "configs": [
        ("deploy/compose/natshook.toml", "allow_http = true", "allow_http = false", "egress"),
        ("deploy/compose/natshook.toml", "secrets/natshook_admin_token", "secrets/natshook_token", "natshook_token"),
        (COMPOSE, "natshook_admin_token, natshook_signing_secret]", "natshook_admin_token]", "natshook_signing_secret"),
        (BASE + "configmap.yaml", "subjects = [", "subject = [", "subjects"),
        (BASE + "configmap.yaml", "natshook/policy-token", "natshook/policy-tokens", "policy-tokens"),
        (PRODUCTION + "deployment.yaml", "NATSHOOK__STATE__REPLICAS", "NATSHOOK__STATE__COPIES", "copies"),
        ("deploy/kubernetes/secret.example.yaml", "  nats-password: \"\"\n", "", "nats-password"),
        ("deploy/systemd/natshook.toml", "[admin]", "[administration]", "administration"),
        (UNIT, "LoadCredential=policy-token:", "LoadCredential=token:", "policy-token"),
    ],
    "lag": [
        (BASE + "configmap.yaml", 'name = "policy"', 'name = "policies"', "no consumer natshook-policy"),
    ],
}

CHECKS = {"compose": compose.complaints, "configs": configs.complaints, "systemd": systemd.complaints,
          "lag": lag.complaints, "kubernetes": lambda root, tools: kubernetes.complaints(root, tools, schemas.NEWEST)}


def copies(name: str) -> list:
    """Without promtool nobody looks for what it would find; that is said elsewhere."""
    return [copy for copy in BROKEN[name] if copy[3] != "promtool" or shutil.which("promtool")]


def complaints(root: pathlib.Path, tools: Tools, name: str):
    for file, old, new, expected in copies(name):
        with tempfile.TemporaryDirectory() as work:
            copy = pathlib.Path(work, "natshook")
            shutil.copytree(root / "deploy", copy / "deploy")
            shutil.copy(root / COMPOSE, copy)
            text = (copy / file).read_text()
            if text.count(old) != 1:
                yield f"{file} does not hold {old!r} once: the mistake cannot be made"
                continue
            (copy / file).write_text(text.replace(old, new))
            found = list(outcome(CHECKS[name], copy, tools))
            if not any(expected in complaint for complaint in found):
                yield f"{file} with {new!r} for {old!r} should be refused for {expected!r}: {found or 'nothing'} said"


def outcome(check, copy: pathlib.Path, tools: Tools):
    """A check that stumbles over a missing key refuses as well."""
    try:
        yield from check(copy, tools)
    except (KeyError, ValueError) as error:
        yield f"stumbled: {error!r}"
