"""The manifests as kustomize renders them: every object by its schema, and what binds objects to each other."""

import pathlib

import yaml

from . import bindings, schemas
from .tools import Tools, run, said

FOLDER = "deploy/kubernetes"
OVERLAYS = ["base", "overlays/production", "overlays/full"]
RULE_HEAD = """\
# deploy/prometheus/alerts.yml as the Prometheus Operator takes it. Change it there, then run
# `scripts/lint-deploy --write`, which makes this file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: natshook
  labels:
    app.kubernetes.io/name: natshook
spec:
"""


class Strict(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML readers keep one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"given twice: {', '.join(map(str, twice))} {node.start_mark}")
        return super().construct_mapping(node, deep)


def read(path: pathlib.Path) -> list:
    return [thing for thing in yaml.load_all(path.read_text(), Strict) if thing]


def complaints(root: pathlib.Path, tools: Tools, versions=None):
    folder = root / FOLDER
    for path in sorted(folder.rglob("*.yaml")):
        try:
            read(path)
        except yaml.YAMLError as error:
            yield f"{path.relative_to(folder)}: {' '.join(str(error).split())}"
            return
    for overlay in OVERLAYS:
        done = run([tools.kubectl(), "kustomize", folder / overlay])
        # What is deprecated is a warning.
        if done.returncode != 0 or done.stderr:
            yield f"{overlay}: kustomize: {said(done)}"
            continue
        things = list(yaml.safe_load_all(done.stdout))
        for thing in things:
            for complaint in schemas.complaints(thing, versions or schemas.VERSIONS):
                yield f"{overlay}: {thing.get('kind')}: {complaint}"
        for complaint in bindings.complaints(things, root):
            yield f"{overlay}: {complaint}"
    (secret,) = read(folder / "secret.example.yaml")
    for complaint in schemas.complaints(secret, versions or schemas.VERSIONS):
        yield f"secret.example.yaml: {complaint}"
    rule = folder / "components/monitoring/prometheusrule.yaml"
    if rule.read_text() != rule_text(root):
        yield "prometheusrule.yaml is not deploy/prometheus/alerts.yml: run scripts/lint-deploy --write"


def rule_text(root: pathlib.Path) -> str:
    alerts = (root / "deploy/prometheus/alerts.yml").read_text()
    groups = alerts[alerts.index("\ngroups:") + 1 :]
    return RULE_HEAD + "".join(f"  {line}\n" if line else "\n" for line in groups.splitlines())


def write(root: pathlib.Path) -> None:
    (root / FOLDER / "components/monitoring/prometheusrule.yaml").write_text(rule_text(root))
