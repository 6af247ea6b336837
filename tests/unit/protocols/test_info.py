"""What /info tells of a model, as text-embeddings-inference does."""

from typing import Any

import pytest

from service.families.family import Opened, Traits
from service.protocols.probes import _model_type
from tests.unit.api.fakes import FakeRegistry


@pytest.mark.parametrize(
    ("pooling", "told"), [("mean", "mean"), ("lasttoken", "last_token"), (None, "none")]
)
def test_the_pooling_of_an_embedder_is_told(
    registry: FakeRegistry, pooling: str | None, told: str
) -> None:
    emoji: Any = registry.named("emoji")
    traits: Traits[Any, Any] = Traits(pooling=pooling) if pooling else Traits()
    emoji.family = Opened(emoji.family.processor, emoji.family.model, traits)
    assert _model_type(emoji, []) == {"embedding": {"pooling": told}}
