"""Schemas of Kubernetes' own objects and of the two operators', where a field that they do not have is an error."""

import copy
import functools

import jsonschema
import kubernetes_validate
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from kubernetes_validate import utils

# What is supported by somebody today, and some that are older.
OLDEST = (1, 29)
VERSIONS = [v for v in utils.all_versions() if tuple(map(int, v.split(".")[:2])) >= OLDEST]
NEWEST = VERSIONS[-1:]
CUSTOM = {model.__name__: model for model in (PrometheusRule, ScaledObject, ServiceMonitor)}
# Each object would read them anew, a megabyte for each version.
utils.schema_contents = functools.cache(utils.schema_contents)


def complaints(thing: dict, versions: list):
    if thing.get("kind") in CUSTOM:
        yield from custom(thing)
        return
    for version in versions:
        try:
            kubernetes_validate.validate(thing, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {where(error)}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError as error:
            yield error.message


def custom(thing: dict):
    validator = jsonschema.Draft202012Validator(schema(thing["kind"]))
    if thing["apiVersion"] not in validator.schema["properties"]["apiVersion"]["enum"]:
        yield f"apiVersion {thing['apiVersion']} is not {thing['kind']}'s"
    for error in validator.iter_errors(thing):
        best = jsonschema.exceptions.best_match([error])
        yield f"{where(best)}: {best.message}"


@functools.cache
def schema(kind: str) -> dict:
    made = copy.deepcopy(CUSTOM[kind].model_json_schema())
    literal = made["properties"]["apiVersion"]
    options = literal.get("anyOf", [literal])
    close(made)
    names = [o["const"] for o in options if "const" in o] + [n for o in options for n in o.get("enum", [])]
    made["properties"]["apiVersion"] = {"enum": names}
    made["required"] = sorted({"apiVersion", "kind", "metadata", "spec", *made.get("required", [])})
    return made


def close(node) -> None:
    """Refuses fields that the type does not have, and values that were left empty."""
    if isinstance(node, list):
        for part in node:
            close(part)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("properties"), dict):
        node.setdefault("additionalProperties", False)
    if isinstance(node.get("anyOf"), list):
        node["anyOf"] = [option for option in node["anyOf"] if option != {"type": "null"}]
    for part in node.values():
        close(part)


def where(error) -> str:
    return "/".join(map(str, error.absolute_path)) or "the object"
