import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.cache.codec import CODECS
from service.tasks import (
    Classification,
    DetectedObject,
    Detections,
    Embedding,
    Generation,
    Inference,
    Label,
    TaggedSpan,
    Tagging,
    Task,
    Translation,
)
from tests.sentences import sentence
from tests.unit.cache.answers import ANSWERS

EXAMPLES = {
    Task.CLASSIFY: Classification((Label("商业", 0.1 + 0.2), Label("science", 5e-324))),
    Task.TAG: Tagging((TaggedSpan("X", 0.9, 0, 2, "a\0"),), 2),
    Task.TRANSLATE: Translation("a\0b", "zh", "en", truncated=True),
    Task.GENERATE: Generation("a\0b", truncated=True),
    Task.DETECT: Detections((DetectedObject("ace", 0.9, (-0.0, 1e-300, 3.5, 4.0)),), 640, 480),
    Task.EMBED: Embedding(np.array([0.1, -0.0, 1e-45], np.float32)),
    Task.SPARSE: Embedding(np.array([0.1, 2], np.float32), np.array([3, 70_000], np.int32)),
    Task.INFER: Inference(
        {"x": np.array([[0.1, -0.0]]), "s": np.array([b"a", b"", b"\xff"], object)}
    ),
}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Embedding) and isinstance(other, Embedding):
        return (
            (one.vector.dtype, one.vector.shape) == (other.vector.dtype, other.vector.shape)
            and one.vector.tobytes() == other.vector.tobytes()
            and np.array_equal(one.indices, other.indices)  # type: ignore[arg-type]
        )
    if isinstance(one, Inference) and isinstance(other, Inference):
        return list(one.outputs) == list(other.outputs) and all(
            (tensor.dtype, tensor.shape) == (one.outputs[name].dtype, one.outputs[name].shape)
            and (
                tensor.ravel().tolist() == one.outputs[name].ravel().tolist()
                if tensor.dtype.hasobject
                else tensor.tobytes() == one.outputs[name].tobytes()
            )
            for name, tensor in other.outputs.items()
        )
    return repr(one) == repr(other) and bool(one == other)  # the repr tells 0.0 from -0.0


def test_every_task_has_a_codec() -> None:
    assert set(CODECS) == set(Task)


@pytest.mark.parametrize("task", Task)
@settings(max_examples=25)  # for each task
@given(st.data())
def test_an_answer_comes_back_exactly_as_it_was(task: Task, data: st.DataObject) -> None:
    answer = data.draw(ANSWERS[task])
    assert same(CODECS[task].decode(CODECS[task].encode(answer)), answer)


@pytest.mark.parametrize("task", Task)
@given(st.binary())
def test_stray_bytes_are_refused_and_nothing_worse(task: Task, stray: bytes) -> None:
    try:
        answer = CODECS[task].decode(stray)
    except (TypeError, ValueError):
        return
    assert same(CODECS[task].decode(CODECS[task].encode(answer)), answer)


@pytest.mark.parametrize("task", Task)
def test_a_truncated_answer_is_refused(task: Task) -> None:
    whole = CODECS[task].encode(EXAMPLES[task])
    for length in range(len(whole)):
        with pytest.raises((TypeError, ValueError)):
            CODECS[task].decode(whole[:length])


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("other", Task)
def test_the_answer_of_another_task_is_refused(task: Task, other: Task) -> None:
    if task is other or {task, other} == {Task.EMBED, Task.SPARSE}:  # one kind of answer
        return
    with pytest.raises((TypeError, ValueError)):
        CODECS[task].decode(CODECS[other].encode(EXAMPLES[other]))


@pytest.mark.parametrize(
    ("task", "stored"),
    [
        (Task.CLASSIFY, [["a", 1]]),
        (Task.CLASSIFY, [["a", None]]),
        (Task.CLASSIFY, [["a", 0.5, 0.5]]),
        (Task.CLASSIFY, {"a": 0.5}),
        (Task.CLASSIFY, None),
        (Task.TRANSLATE, ["a", "zh", "en"]),
        (Task.TRANSLATE, ["a", "zh", "en", 1]),
        (Task.TAG, [1, [["X", 0.5, 0, 1]]]),
        (Task.TAG, [1.0, []]),
        (Task.DETECT, [640, 480, [["ace", 0.5, 1.0, 2.0, 3.0]]]),
        (Task.DETECT, [640.0, 480, []]),
        (Task.DETECT, [True, 480, []]),
    ],
)
def test_another_shape_is_refused(task: Task, stored: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        CODECS[task].decode(orjson.dumps(stored))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_not_stored(number: float) -> None:
    with pytest.raises(ValueError, check=sentence):
        CODECS[Task.CLASSIFY].encode(Classification((Label("a", number),)))
    found = DetectedObject("ace", 0.5, (0.0, number, 1.0, 1.0))
    with pytest.raises(ValueError, check=sentence):
        CODECS[Task.DETECT].encode(Detections((found,), 1, 1))


def test_a_numpy_score_is_stored_as_the_number_it_is() -> None:
    stored = CODECS[Task.CLASSIFY].encode(Classification((Label("a", np.float64(0.1)),)))
    (label,) = CODECS[Task.CLASSIFY].decode(stored).labels
    assert type(label.score) is float
    assert label.score == 0.1


@pytest.mark.parametrize(
    "vector", [np.zeros(3, np.float64), np.zeros((1, 1, 3), np.float32), np.zeros(3, np.float16)]
)
def test_an_embedding_that_would_not_come_back_exactly_is_not_stored(vector: Any) -> None:
    with pytest.raises(ValueError, match="float32"):
        CODECS[Task.EMBED].encode(Embedding(vector))


def test_vectors_of_tokens_are_stored_with_their_shape() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    stored = CODECS[Task.EMBED].encode(Embedding(vectors))
    np.testing.assert_array_equal(CODECS[Task.EMBED].decode(stored).vector, vectors, strict=True)


def test_a_strided_embedding_is_stored_in_order() -> None:
    vector = np.arange(10, dtype=np.float32)[::-3]
    stored = CODECS[Task.EMBED].encode(Embedding(vector))
    assert CODECS[Task.EMBED].decode(stored).vector.tolist() == vector.tolist()


def test_a_stored_embedding_is_sent_without_a_detour() -> None:
    stored = CODECS[Task.EMBED].encode(EXAMPLES[Task.EMBED])
    vector = CODECS[Task.EMBED].decode(stored).vector
    assert orjson.loads(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY)) == [
        0.1,
        -0.0,
        1e-45,
    ]
    assert not vector.flags.writeable, "two requests may hold it"
