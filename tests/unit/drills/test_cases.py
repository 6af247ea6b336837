"""Hostile inputs are drawn from a seed: the same again and again, and of every kind."""

import io
import itertools
import json
import random

import onnxruntime
import pytest
from PIL import Image

from drills import lasting_model
from drills.body_cases import bodies
from drills.fake_redis import right
from drills.grammar import cases, kinds
from drills.images import HOSTILE, good, png


def test_the_same_seed_draws_the_same_heads() -> None:
    drawn = [list(itertools.islice(cases(random.Random(7)), 200)) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_every_kind_of_head_has_its_turn() -> None:
    first = list(itertools.islice(cases(random.Random(7)), kinds() * 20))
    assert len({case.kind for case in first}) > 100
    assert all(case.packets for case in first)


def test_the_same_seed_draws_the_same_bodies() -> None:
    drawn = [list(itertools.islice(bodies(random.Random(7), large=False), 10)) for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_bad_items_are_of_the_request() -> None:
    some = itertools.islice(bodies(random.Random(1), large=False), 40)
    named = [body for body in some if body.bad_items and body.content_type == "application/json"]
    assert named
    for body in named:
        (items,) = json.loads(body.data).values()
        assert max(body.bad_items) < len(items)
        assert len(body.bad_items) < len(items)


def test_a_png_says_the_size_that_it_was_given() -> None:
    with Image.open(io.BytesIO(png(1, 50_000))) as image:
        assert image.size == (1, 50_000)


def test_every_maker_of_images_makes_bytes() -> None:
    slow = {"thin picture in full", "decompression bomb", "text that unpacks to 100 MB"}
    for name, make in HOSTILE.items():
        if name not in slow:
            assert isinstance(make(random.Random(1)), bytes)
    with Image.open(io.BytesIO(good(random.Random(1)))) as image:
        image.load()


@pytest.mark.parametrize(
    ("words", "reply"),
    [([b"MGET", b"a", b"b"], b"*2\r\n$-1\r\n$-1\r\n"), ([b"PING"], b"+PONG\r\n")],
)
def test_a_fake_redis_that_is_right_knows_nothing(words: list[bytes], reply: bytes) -> None:
    assert right(words) == reply


def test_the_lasting_model_ends_on_all_but_one_text() -> None:
    model = lasting_model.model(token=7)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feeds = {"input_ids": [[5, 7, 7, 2]], "attention_mask": [[1, 1, 1, 1]]}
    (logits,) = session.run(None, feeds)
    assert logits.tolist() == [[0.0, 1.0, 2.0, 3.0]]
