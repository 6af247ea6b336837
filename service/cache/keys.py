"""Cache keys. Whatever can change an answer is in the key; nothing else is."""

import hashlib
from dataclasses import dataclass

from service.tasks import Task
from service.types import Item, fingerprint

SCHEMA = 2
"""Raise when the stored encoding of answers, or their meaning, changes."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which exact artefact answers."""

    name: str
    version: int
    digest: str
    """Of every file of the version that can change an answer, for the chosen precision."""


def cache_key(task: Task, model: ModelIdentity, item: Item) -> str:
    """Return the key of one item for one model: 128 bits over typed, length-prefixed parts."""
    hashed = hashlib.blake2b(digest_size=16)
    hashed.update(fingerprint(SCHEMA, task.value, model.name, model.version, model.digest))
    hashed.update(item.fingerprint())
    return hashed.hexdigest()
