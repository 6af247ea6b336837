"""Members of the OpenAPI document of a protocol's routes."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from service.api.openapi import reference

_PARAMETER = re.compile(r"{(\w+)")
"""A parameter in the template of a path."""


def any_of(models: Sequence[type[BaseModel]]) -> Mapping[str, Any]:
    """Return the schema of a value of one of the models."""
    references = [reference(model) for model in dict.fromkeys(models)]
    return references[0] if len(references) == 1 else {"anyOf": references}


def responses(
    models: Sequence[type[BaseModel]], errors: Sequence[type[BaseModel]]
) -> dict[int | str, Any]:
    """Return what a route answers with status 200, and with every other status."""
    return {
        200: {"content": {"application/json": {"schema": any_of(models)}}},
        "default": {
            "description": "Refused, or failed; the message says why.",
            "content": {"application/json": {"schema": any_of(errors)}},
        },
    }


def path_parameters(path: str, examples: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return the parameters in the template of a path."""
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": examples[name],
        }
        for name in _PARAMETER.findall(path)
    ]


def identifier(method: str, path: str) -> str:
    """Return the id of an operation."""
    return "_".join([method, *re.findall(r"\w+", path)])
