"""Labels that a request gives: scores, order, the number of computations, and refusals."""

import asyncio
import math

import pytest

from service.cache.responses import CacheMode, CacheOutcome
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    LimitExceededError,
    OverloadedError,
)
from service.families.family import CosineScores
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.zero_shot import GivenLabels
from service.tasks import (
    ClassifyItem,
    EmbedItem,
    Image,
    Text,
)
from tests.sentences import sentence
from tests.unit.requests.label_models import (
    NLI,
    PLANE,
    FakePipeline,
    asked,
    scores,
    sigmoid,
    softmax,
)


async def test_an_embedder_scores_by_scaled_cosines() -> None:
    pipeline = FakePipeline(CosineScores(5.0, bias=-3.0))
    found = await scores(
        pipeline, ["east", "north", "north-east"], ClassifyItem(Text("north-east"))
    )
    expected = dict(
        zip(["east", "north", "north-east"], softmax(5 / 2**0.5, 5 / 2**0.5, 5), strict=True)
    )
    assert list(found) == ["north-east", "east", "north"]
    assert found == pytest.approx(expected)


async def test_an_image_is_compared_with_labels_in_the_models_template() -> None:
    how = CosineScores(5.0, template="a photo of {}")
    item = ClassifyItem(Image(b"east"))
    found = await scores(FakePipeline(how), ["east", "north"], item)
    cosines = [1 / math.hypot(1, 0.1), 0.1 / math.hypot(1, 0.1)]
    assert list(found.values()) == pytest.approx(softmax(*(5 * one for one in cosines)))
    plain = await scores(FakePipeline(how), ["east", "north"], item, template="{}")
    assert list(plain.values()) == pytest.approx(softmax(5, 0))


async def test_a_model_trained_with_a_sigmoid_scores_an_images_labels_one_by_one() -> None:
    pipeline = FakePipeline(CosineScores(5.0, bias=-3.0, is_independent=True))
    image = ClassifyItem(Image(b"east"))
    wanted = {"east": sigmoid(2), "north": sigmoid(-3)}
    assert await scores(pipeline, ["north", "east"], image) == pytest.approx(wanted)
    assert await scores(pipeline, ["north", "east"], image, multi_label=True) == pytest.approx(
        wanted
    )
    one = await scores(pipeline, ["north", "east"], image, multi_label=False)
    assert one == pytest.approx({"east": softmax(5, 0)[0], "north": softmax(5, 0)[1]})
    text = await scores(pipeline, ["north", "east"], ClassifyItem(Text("east")))
    assert sum(text.values()) == pytest.approx(1)


async def test_a_vector_of_zeros_is_as_near_to_every_label() -> None:
    pipeline = FakePipeline(CosineScores(5.0))
    found = await scores(pipeline, ["east", "nowhere"], ClassifyItem(Text("nowhere")))
    assert found == {"east": 0.5, "nowhere": 0.5}


async def test_labels_are_computed_once_for_all_items_and_then_never_again() -> None:
    pipeline = FakePipeline(CosineScores(5.0))
    items = [ClassifyItem(Text(text)) for text in ("east", "north-east", "north")]
    answers = await asked(pipeline, ["east", "north"], *items)
    assert len(pipeline.asked) == 3  # two of the texts are labels too
    assert answers.cache is CacheOutcome.MISS
    answers = await asked(pipeline, ["north", "east"], *items)
    assert len(pipeline.asked) == 3
    assert answers.cache is CacheOutcome.HIT


async def test_a_set_of_labels_that_comes_again_is_one_look_up() -> None:
    pipeline = FakePipeline(CosineScores(5.0))
    item = ClassifyItem(Text("north-east"))
    first = await asked(pipeline, ["east", "north"], item)
    pipeline.looked_up = 0
    second = await asked(pipeline, ["east", "north"], item)
    assert pipeline.looked_up == 1  # the text
    assert second.results[0].answer == first.results[0].answer  # type: ignore[union-attr]
    assert (first.cache, second.cache) == (CacheOutcome.MISS, CacheOutcome.HIT)
    other = await asked(pipeline, ["east", "north"], item, template="{}")
    assert other.cache is CacheOutcome.HIT
    bypass = Request(cache=CacheMode.BYPASS)
    pipeline.looked_up = 0
    await asked(pipeline, ["east", "north"], item, request=bypass)
    assert pipeline.looked_up == 3


async def test_a_thousand_labels_never_fill_the_queue() -> None:
    pipeline = FakePipeline(CosineScores(5.0), window=7)
    PLANE.update({f"label {n}": [1.0, float(n)] for n in range(1000)})
    found = await scores(pipeline, [f"label {n}" for n in range(1000)], ClassifyItem(Text("north")))
    assert len(found) == 1000
    assert next(iter(found)) == "label 999"
    assert pipeline.most_running == 7


async def test_a_classifier_of_pairs_scores_by_entailment() -> None:
    found = await scores(FakePipeline(NLI), ["wet", "dry", "dark"], ClassifyItem(Text("rain")))
    expected = dict(zip(["wet", "dry", "dark"], softmax(2, -2, 0.5), strict=True))
    assert found == pytest.approx(expected)
    assert list(found) == ["wet", "dark", "dry"]


async def test_several_labels_of_a_classifier_of_pairs_can_be_right() -> None:
    found = await scores(
        FakePipeline(NLI), ["wet", "dry", "dark"], ClassifyItem(Text("rain")), multi_label=True
    )
    expected = {"wet": softmax(-1, 2)[1], "dry": softmax(3, -2)[1], "dark": softmax(0, 0.5)[1]}
    assert found == pytest.approx(expected)


async def test_top_k_is_of_the_given_labels() -> None:
    pipeline = FakePipeline(NLI)
    found = await scores(pipeline, ["wet", "dry", "dark"], ClassifyItem(Text("rain"), top_k=1))
    assert list(found) == ["wet"]


async def test_a_queue_that_fills_up_is_waited_for_and_a_full_one_is_not() -> None:
    pipeline = FakePipeline(CosineScores(5.0), full=3)
    found = await scores(pipeline, ["east", "north"], ClassifyItem(Text("north-east")))
    assert len(found) == 2
    busy = FakePipeline(CosineScores(5.0), full=1, asked=[EmbedItem(Text("x"))])
    with pytest.raises(OverloadedError, match=r"labels\[0\]"):
        await scores(busy, ["east", "north"], ClassifyItem(Text("north-east")))


async def test_the_deadline_holds_while_the_queue_is_full() -> None:
    pipeline = FakePipeline(CosineScores(5.0), full=1000)
    request = Request(deadline=asyncio.get_running_loop().time() + 1)
    with pytest.raises(DeadlineExceededError, match=r"labels\[1\]"):
        await asked(pipeline, ["east", "north"], ClassifyItem(Text("east")), request=request)


async def test_a_label_that_fails_is_named_and_ends_the_request() -> None:
    pipeline = FakePipeline(CosineScores(5.0), window=1)
    labels = ["east", "broken", "north", "north-east"]
    with pytest.raises(InferenceError, check=sentence):
        await asked(pipeline, labels, ClassifyItem(Text("east")))
    assert len(pipeline.asked) == 2


async def test_an_item_that_fails_does_not_fail_the_others() -> None:
    pipeline = FakePipeline(CosineScores(5.0))
    answers = await asked(
        pipeline,
        ["east", "north"],
        ClassifyItem(Text("east")),
        InvalidInputError("the text is empty"),
        ClassifyItem(Text("broken")),
        ClassifyItem(Text("east"), text_pair="north"),
    )
    kinds = [type(result) for result in answers.results]
    assert kinds == [Outcome, InvalidInputError, InferenceError, InvalidInputError]


async def test_nothing_is_computed_for_a_request_without_valid_items() -> None:
    pipeline = FakePipeline(CosineScores(5.0))
    answers = await asked(pipeline, ["east", "north"], InvalidInputError("the text is empty"))
    assert (answers.model, pipeline.asked) == (None, [])


async def test_multi_label_is_refused_where_scores_depend_on_one_another() -> None:
    pipeline = FakePipeline(CosineScores(5.0))
    with pytest.raises(InvalidInputError, match="multi_label"):
        await asked(pipeline, ["a", "b"], ClassifyItem(Text("east")), multi_label=True)
    assert pipeline.asked == []


@pytest.mark.parametrize(
    ("names", "template"),
    [
        (("a",), None),
        ((), None),
        (("a", "b", "a"), None),
        (("a", ""), None),
        ((" \n", "b"), None),
        (("a", "b"), "about"),
    ],
)
def test_labels_that_cannot_be_are_refused(names: tuple[str, ...], template: str | None) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        GivenLabels(names, template)


def test_the_number_of_labels_is_limited() -> None:
    assert len(GivenLabels(tuple(map(str, range(1000)))).names) == 1000
    with pytest.raises(LimitExceededError, check=sentence):
        GivenLabels(tuple(map(str, range(1001))))
