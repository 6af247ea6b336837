import io
from dataclasses import fields, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from service.cache.responses import cache_key, key_of
from service.tasks import (
    AnyItem,
    ClassifyItem,
    DetectItem,
    EmbedItem,
    Image,
    InferItem,
    Task,
    Text,
    TranslateItem,
    fingerprint,
)
from service.types import ModelIdentity
from tests.unit.cache.answers import ITEMS

MODEL = ModelIdentity("news-topics", 1, "0" * 64)
ITEM = ClassifyItem(Text("x"))


def key(item: AnyItem = ITEM, model: ModelIdentity = MODEL, task: Task = Task.CLASSIFY) -> str:
    return cache_key(task, model, item)


def test_the_same_request_has_the_same_key() -> None:
    assert key() == key(ClassifyItem(Text("x")), ModelIdentity("news-topics", 1, "0" * 64))


def test_a_key_has_128_bits() -> None:
    assert len(bytes.fromhex(key())) == 16


def test_another_model_is_another_key() -> None:
    assert key() != key(model=replace(MODEL, name="topics"))


def test_another_version_is_another_key() -> None:
    assert key() != key(model=replace(MODEL, version=2))


def test_a_retrained_model_under_the_same_version_is_another_key() -> None:
    assert key() != key(model=replace(MODEL, digest="f" * 64))


def test_a_digest_that_differs_only_at_its_end_is_another_key() -> None:
    assert key() != key(model=replace(MODEL, digest="0" * 63 + "1"))


def test_a_model_and_a_version_do_not_run_into_each_other() -> None:
    assert key(model=ModelIdentity("m1", 1, "d")) != key(model=ModelIdentity("m", 11, "d"))
    assert key(model=ModelIdentity("m", 1, "1d")) != key(model=ModelIdentity("m", 11, "d"))


def test_another_task_is_another_key() -> None:
    content = Text("x")
    keys = {key(EmbedItem(content), task=task) for task in Task}
    assert len(keys) == len(Task)


def test_a_text_that_spells_an_image_is_another_key() -> None:
    assert key(EmbedItem(Text("x"))) != key(EmbedItem(Image(b"x")))


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        (
            ClassifyItem(Text("x")),
            {"content": Text("y"), "top_k": 3, "text_pair": "z", "raw_scores": True},
        ),
        (
            TranslateItem("x"),
            {
                "text": "y",
                "source": "zh",
                "target": "en",
                "num_beams": 4,
                "length_penalty": 0.5,
                "max_new_tokens": 7,
                "alternatives": 2,
                "glossary": (("x", "y"),),
                "protect": ("urls",),
            },
        ),
        (
            DetectItem(Image(b"x")),
            {
                "image": Image(b"y"),
                "threshold": 0.1,
                "iou": 0.2,
                "max_detections": 3,
                "masks": "png",
            },
        ),
        (
            EmbedItem(Text("x")),
            {
                "content": Text("y"),
                "prompt_name": "query",
                "dimensions": 3,
                "normalize": True,
                "form": "sparse",
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_parameter_is_in_the_key(item: AnyItem, changes: dict[str, object]) -> None:
    assert set(changes) == {field.name for field in fields(item)}, "a field has no case here"
    changed = [replace(item, **{name: value}) for name, value in changes.items()]
    assert len({key(one) for one in (item, *changed)}) == len(changes) + 1


def test_a_value_in_another_parameter_is_another_key() -> None:
    assert key(TranslateItem("x", source="zh")) != key(TranslateItem("x", target="zh"))
    assert key(TranslateItem("x", num_beams=4)) != key(TranslateItem("x", max_new_tokens=4))
    one, two = TranslateItem("x", glossary=(("a", "b"),)), TranslateItem("x", protect=("urls",))
    assert key(one) != key(TranslateItem("x", glossary=(("b", "a"),)))
    assert key(two) != key(TranslateItem("x", protect=("numbers",)))
    image = Image(b"x")
    assert key(DetectItem(image, threshold=0.5)) != key(DetectItem(image, iou=0.5))


def test_text_that_moves_over_a_border_is_another_key() -> None:
    assert key(TranslateItem("ab", "c", "d")) != key(TranslateItem("a", "bc", "d"))
    assert key(TranslateItem("ab", "c")) != key(TranslateItem("a", "bc"))


def test_the_same_pixels_in_another_shape_are_another_key() -> None:
    def png(size: tuple[int, int]) -> Image:
        file = io.BytesIO()
        PillowImage.frombytes("L", size, bytes(range(16))).save(file, "PNG")
        return Image(file.getvalue())

    keys = {key(DetectItem(png(size)), task=Task.DETECT) for size in ((2, 8), (4, 4), (8, 2))}
    assert len(keys) == 3


def plain(item: AnyItem) -> object:
    """The item as something that can be compared."""
    if not isinstance(item, InferItem):
        return item
    return {
        name: (
            tensor.dtype.str,
            tensor.shape,
            tensor.tolist() if tensor.dtype.hasobject else tensor.tobytes(),
        )
        for name, tensor in item.tensors.items()
    }


@pytest.mark.parametrize("task", Task)
@settings(max_examples=25)  # for each task
@given(st.data())
def test_different_items_never_share_a_key(task: Task, data: st.DataObject) -> None:
    one, other = data.draw(ITEMS[task]), data.draw(ITEMS[task])
    assume(plain(one) != plain(other))
    assert cache_key(task, MODEL, one) != cache_key(task, MODEL, other)


parts = st.none() | st.text() | st.binary() | st.integers() | st.floats(allow_nan=False)


@given(st.lists(parts, max_size=4), st.lists(parts, max_size=4))
def test_different_parts_never_give_the_same_fingerprint(
    some: list[str | bytes | int | float | None], others: list[str | bytes | int | float | None]
) -> None:
    assume([(type(part), repr(part)) for part in some] != [(type(p), repr(p)) for p in others])
    assert fingerprint(*some) != fingerprint(*others)


@pytest.mark.looptime(False)
@pytest.mark.parametrize("size", [1, 1 << 20])
async def test_a_long_item_has_the_same_key_when_it_is_hashed_on_a_thread(size: int) -> None:
    item = ClassifyItem(Image(b"x" * size))
    assert await key_of(Task.CLASSIFY, MODEL, item) == key(item)
