"""Cache keys. Whatever can change an answer is in the key; nothing else is."""

import hashlib
from functools import lru_cache

from service.tasks import Task
from service.types import Item, ModelIdentity, fingerprint

SCHEMA = 2
"""Raise when the stored encoding of answers, or their meaning, changes."""


def cache_key(task: Task, model: ModelIdentity, item: Item) -> str:
    """Return the key of one item for one model: 128 bits over typed, length-prefixed parts."""
    hashed = _of_model(task, model).copy()
    hashed.update(item.fingerprint())
    return hashed.hexdigest()


@lru_cache(256)
def _of_model(task: Task, model: ModelIdentity) -> "hashlib.blake2b":
    """Return what all keys of a model begin with. Copy it; it is kept."""
    parts = fingerprint(SCHEMA, task.value, model.name, model.version, model.digest)
    return hashlib.blake2b(parts, digest_size=16)
