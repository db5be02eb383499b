"""What schemas do not know of a rendered overlay: names that have to meet, and what natshook and Kubernetes expect."""

import pathlib
import tomllib
import urllib.parse

import yaml

from . import configs
from .tools import seconds

# What KEDA's nats-jetstream trigger takes: https://keda.sh/docs/2.20/scalers/nats-jetstream
TRIGGER = {"natsServerMonitoringEndpoint", "account", "stream", "consumer", "lagThreshold", "activationLagThreshold",
           "useHttps"}
# The "restricted" Pod Security Standard, and more of the same kind.
POD = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER = {"allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
             "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}


def complaints(things: list, root: pathlib.Path):
    of_kind = {thing["kind"]: thing for thing in things}
    pod = of_kind["Deployment"]["spec"]["template"]
    labels, spec, container = pod["metadata"]["labels"], pod["spec"], pod["spec"]["containers"][0]
    config = tomllib.loads(of_kind["ConfigMap"]["data"]["natshook.toml"])

    namespaces = {thing["metadata"].get("namespace") for thing in things if thing["kind"] != "Namespace"}
    if len(namespaces) != 1:
        yield f"objects in several namespaces: {sorted(map(str, namespaces))}"
    yield from selectors(of_kind, labels)
    yield from rights(spec, container)
    yield from lifetimes(spec, container, of_kind, config, root)
    yield from mounts(spec, container, of_kind, root)
    yield from network(of_kind, config, container)
    if "ScaledObject" in of_kind:
        yield from autoscaling(of_kind, config)
    if "ServiceMonitor" in of_kind:
        yield from monitoring(of_kind, root)


def selectors(of_kind: dict, labels: dict):
    wanted = {
        "Deployment": of_kind["Deployment"]["spec"]["selector"]["matchLabels"],
        "Service": of_kind["Service"]["spec"]["selector"],
        "NetworkPolicy": of_kind["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    }
    if "PodDisruptionBudget" in of_kind:
        wanted["PodDisruptionBudget"] = of_kind["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    for constraint in of_kind["Deployment"]["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        wanted[f"topology spread by {constraint['topologyKey']}"] = constraint["labelSelector"]["matchLabels"]
    for kind, selector in wanted.items():
        if not selector or not selector.items() <= labels.items():
            yield f"{kind} selects {selector}, the pods have {labels}"


def rights(spec: dict, container: dict):
    for name, wanted, owner in [("pod", POD, spec), ("container", CONTAINER, container)]:
        found = owner["securityContext"]
        for key, value in wanted.items():
            if found.get(key) != value:
                yield f"{name}: securityContext.{key} is {found.get(key)}, not {value}"
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token of its service account"
    for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
        if key in spec:
            yield f"the pod has {key}"


def lifetimes(spec: dict, container: dict, of_kind: dict, config: dict, root: pathlib.Path):
    grace = config.get("shutdown", {}).get("grace_period", configs.GRACE_DEFAULT)
    least = seconds(grace) + configs.AFTER_GRACE_SECONDS
    if spec["terminationGracePeriodSeconds"] < least:
        yield f"terminationGracePeriodSeconds is {spec['terminationGracePeriodSeconds']}, a drain needs {least:.0f}"
    ports = {port["name"] for port in container["ports"]}
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        asked = container[probe]["httpGet"]
        # A liveness probe on /readyz would restart natshook for want of the broker.
        if asked["path"] != path or asked["port"] not in ports:
            yield f"{probe} asks for {asked['path']} on {asked['port']}"
    (port,) = [p["containerPort"] for p in container["ports"]]
    if config["admin"]["listen"] != f"0.0.0.0:{port}":
        yield f"admin.listen is {config['admin']['listen']}, the port is {port}"
    if of_kind["Service"]["spec"]["ports"][0]["targetPort"] not in ports:
        yield "the Service leads to a port that the pod does not have"
    for kind in ("requests", "limits"):
        if not {"cpu", "memory"} <= container["resources"][kind].keys():
            yield f"resources.{kind} lacks cpu or memory"


def mounts(spec: dict, container: dict, of_kind: dict, root: pathlib.Path):
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for mount in container["volumeMounts"]:
        if mount["name"] not in volumes or "subPath" in mount or not mount.get("readOnly"):
            yield f"the mount {mount['name']} has no volume, can be written to, or would never change"
    if volumes["config"]["configMap"]["name"] != of_kind["ConfigMap"]["metadata"]["name"]:
        yield "the volume config is not the ConfigMap"
    if volumes["secrets"]["secret"]["secretName"] != example(root)["metadata"]["name"]:
        yield "the volume secrets is not the Secret of secret.example.yaml"
    # The image's NATSHOOK_CONFIG is /etc/natshook/natshook.toml.
    if "/etc/natshook" not in {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "config"}:
        yield "the config is not where the image looks for it"


def example(root: pathlib.Path) -> dict:
    return yaml.safe_load((root / "deploy/kubernetes/secret.example.yaml").read_text())


def network(of_kind: dict, config: dict, container: dict):
    policy = of_kind["NetworkPolicy"]["spec"]
    inside = [(peer["namespaceSelector"]["matchLabels"], port["port"]) for rule in policy["egress"]
              for peer in rule["to"] if "namespaceSelector" in peer for port in rule["ports"]]
    allowed = {(labels["kubernetes.io/metadata.name"], port) for labels, port in inside}
    for server in config["nats"]["servers"]:
        url = urllib.parse.urlsplit(server)
        namespace = url.hostname.split(".")[1]
        if (namespace, url.port) not in allowed:
            yield f"the NetworkPolicy does not let natshook reach {server}"
    if policy["ingress"][0]["ports"][0]["port"] != container["ports"][0]["name"]:
        yield "the NetworkPolicy opens another port than the pod has"
    public = [rule for rule in policy["egress"] if any("ipBlock" in peer for peer in rule["to"])]
    ports = {port["port"] for rule in public for port in rule["ports"]}
    if ports != set(config.get("egress", {}).get("ports", [443, 8443])):
        yield f"the NetworkPolicy opens {sorted(ports)} to the public, egress.ports others"


def autoscaling(of_kind: dict, config: dict):
    scaled = of_kind["ScaledObject"]["spec"]
    deployment, reference = of_kind["Deployment"], scaled["scaleTargetRef"]
    if (reference["kind"], reference["name"], reference["apiVersion"]) != (
            deployment["kind"], deployment["metadata"]["name"], deployment["apiVersion"]):
        yield f"the ScaledObject scales {reference}"
    if "replicas" in deployment["spec"]:
        yield "the Deployment sets replicas, which are KEDA's"
    if not 1 <= scaled["minReplicaCount"] <= scaled["fallback"]["replicas"] <= scaled["maxReplicaCount"]:
        yield "minReplicaCount, fallback and maxReplicaCount do not fit together"
    followed = set()
    for trigger in scaled["triggers"]:
        asked = trigger["metadata"]
        if trigger["type"] != "nats-jetstream" or trigger.get("metricType", "AverageValue") != "AverageValue":
            yield f"the trigger {trigger.get('name')} is {trigger['type']}, {trigger.get('metricType')}"
        if not asked.keys() <= TRIGGER or not all(isinstance(value, str) for value in asked.values()):
            yield f"the trigger {trigger.get('name')} has {sorted(asked.keys() - TRIGGER)}, or values that are no texts"
        if not int(asked["lagThreshold"]) > int(asked.get("activationLagThreshold", 0)) >= 0:
            yield "lagThreshold is not above activationLagThreshold"
        if asked["stream"] != config["stream"]["name"]:
            yield f"the trigger follows the stream {asked['stream']}, the config's is {config['stream']['name']}"
        followed.add(asked["consumer"])
    name = config.get("name", "natshook")
    consumers = {f"{name}-{target['name']}" for target in config["targets"]}
    if followed != consumers:
        yield f"triggers follow {sorted(followed)}, the targets' consumers are {sorted(consumers)}"


def monitoring(of_kind: dict, root: pathlib.Path):
    monitor, service = of_kind["ServiceMonitor"]["spec"], of_kind["Service"]
    selector = monitor["selector"]["matchLabels"]
    if not selector or not selector.items() <= service["metadata"]["labels"].items():
        yield f"the ServiceMonitor selects {selector}, the Service has {service['metadata']['labels']}"
    # The alerts name the job.
    if service["metadata"]["labels"].get(monitor["jobLabel"]) != "natshook":
        yield "the job would not be called natshook"
    for endpoint in monitor["endpoints"]:
        if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
            yield f"the ServiceMonitor scrapes the port {endpoint['port']}"
        token = endpoint["authorization"]["credentials"]
        secret = example(root)
        if token["name"] != secret["metadata"]["name"] or token["key"] not in secret["stringData"]:
            yield f"the ServiceMonitor's token is {token}"
