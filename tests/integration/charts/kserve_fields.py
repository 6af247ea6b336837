"""Compares manifests with the classes of KServe's Python package; a program for `.venv/clients`.

Standard input is a list of manifests, standard output what does not fit: unknown fields, values of
another type, and what the classes themselves refuse.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import kserve.models
import kubernetes.client.models

_PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}


def problems(value: Any, kind: str, path: str) -> Iterator[str]:
    if inner := re.fullmatch(r"(list\[|dict\(str, )(.+)[\])]", kind):
        yield from _members(value, inner[1] == "list[", inner[2], path)
    elif kind in _PLAIN:
        if not isinstance(value, _PLAIN[kind]):  # type: ignore[arg-type]
            yield f"{path}: {value!r} is not {kind}"
    elif (model := _class(kind)) is not None:
        yield from _fields(value, model, path)


def _members(value: Any, is_list: bool, kind: str, path: str) -> Iterator[str]:
    if not isinstance(value, list if is_list else dict):
        yield f"{path}: {value!r} is no {'list' if is_list else 'table'}"
        return
    for key, member in enumerate(value) if is_list else value.items():
        yield from problems(member, kind, f"{path}.{key}")


def _fields(value: Any, model: Any, path: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{path}: {value!r} is no table"
        return
    names = {written: name for name, written in model.attribute_map.items()}
    for key, member in value.items():
        if key not in names:
            yield f"{path}.{key} is unknown"
        else:
            yield from problems(member, model.openapi_types[names[key]], f"{path}.{key}")
    try:
        model(**{names[key]: member for key, member in value.items() if key in names})
    except ValueError as error:
        yield f"{path}: {error}"


def _class(kind: str) -> Any:
    """Return a class; None for a quantity or a port, which may be a text or a number."""
    name = re.sub(r"^K8sIoApi(Core|AppsV1|AutoscalingV2|Apps)", "", kind)
    for known in (kind, name, f"V1{name}", f"V2{name}"):
        for module in (kserve.models, kubernetes.client.models):
            if (model := getattr(module, known, None)) is not None:
                return model
    return None


def main() -> None:
    found = []
    for manifest in json.load(sys.stdin):
        kind = "V" + manifest["apiVersion"].rpartition("/v")[2] + manifest["kind"]
        assert _class(kind) is not None, kind
        found.append(list(problems(manifest, kind, manifest["kind"])))
    json.dump(found, sys.stdout)


main()
