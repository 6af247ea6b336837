"""In flight, whatever joins or leaves meanwhile, every sentence gets transformers' own tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("onnx")

from transformers import (  # noqa: E402
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    MBartConfig,
    MBartForConditionalGeneration,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from models.graphs.in_flight import step_graphs  # noqa: E402
from models.graphs.pretrained_weights import weights_of  # noqa: E402
from service.families.translation.decode_batch import DecodeBatch, PrefillBatch  # noqa: E402
from service.families.translation.search.candidates import SearchRules  # noqa: E402
from service.families.translation.search.decoding import Decoding, Hypothesis  # noqa: E402
from service.runtime.providers import Device  # noqa: E402
from service.runtime.session import OrtSession  # noqa: E402
from service.types import Sessions  # noqa: E402

pytestmark = pytest.mark.looptime(False)

VOCABULARY, LONGEST = 60, 14
_TINY = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "scale_embedding": True,
    "forced_eos_token_id": None,
    "tie_word_embeddings": False,  # or a random model would say what it has just read
}
_TINY_T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 2,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
MODELS: Mapping[str, tuple[type[PreTrainedModel], Any]] = {
    "marian": (MarianMTModel, MarianConfig(**_TINY, activation_function="swish")),
    "mbart": (MBartForConditionalGeneration, MBartConfig(**_TINY)),
    "m2m_100": (
        M2M100ForConditionalGeneration,
        M2M100Config(**{**_TINY, "tie_word_embeddings": True}),
    ),
    "t5": (T5ForConditionalGeneration, T5Config(**_TINY_T5)),
}


@dataclass(frozen=True)
class Pair:
    """A model in PyTorch, and its graphs in onnxruntime."""

    model: Any
    sessions: Sessions
    rules: SearchRules

    def answer(self, source: list[int], decoding: Decoding) -> list[int]:
        """What `generate` says of a sentence alone, without start and end tokens."""
        known = (tuple(source), decoding)
        if known not in _ANSWERS.setdefault(self.model, {}):
            ids = self.model.generate(
                input_ids=torch.tensor([source]),
                num_beams=decoding.num_beams,
                length_penalty=decoding.length_penalty,
                early_stopping=self.rules.early_stopping,
                max_new_tokens=decoding.max_new_tokens,
                forced_bos_token_id=self.rules.forced_first_id,
                forced_eos_token_id=self.rules.forced_last_id,
                do_sample=False,
            )[0, 1:].tolist()
            end = ids.index(2) if 2 in ids else len(ids)
            _ANSWERS[self.model][known] = ids[:end]
        return _ANSWERS[self.model][known]


_ANSWERS: WeakKeyDictionary[Any, dict[Any, list[int]]] = WeakKeyDictionary()
_PAIRS: dict[str, Pair] = {}


def opened(kind: str, folder: Path) -> Pair:
    torch.manual_seed(5)
    torch.set_num_threads(1)
    cls, config = MODELS[kind]
    model = cls(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.15)
        if kind == "marian":
            model.final_logits_bias.normal_()
    weights = weights_of(model)
    sessions = {}
    for name, graph in step_graphs(weights, "fp32").items():
        (folder / f"{name}.onnx").write_bytes(graph.SerializeToString())
        sessions[name] = OrtSession(folder / f"{name}.onnx", Device("cpu"), 1)
    start = config.decoder_start_token_id
    return Pair(model, sessions, SearchRules(start, (config.eos_token_id,)))


@pytest.fixture(params=MODELS, scope="module")
def pair(request: Any, tmp_path_factory: Any) -> Pair:
    return opened(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def marian(tmp_path_factory: Any) -> Pair:
    return opened("marian", tmp_path_factory.mktemp("marian"))


def source(seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return [*rng.integers(3, VOCABULARY, rng.integers(1, 12)).tolist(), 2]


def newcomers(pair: Pair, sentences: Mapping[int, tuple[int, Decoding]]) -> PrefillBatch:
    """Read sentences together, padded to the longest."""
    rows = [source(seed) for seed, _ in sentences.values()]
    lengths = [len(row) for row in rows]
    ids = np.ones((len(rows), max(lengths)), np.int64)
    mask = np.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row)], mask[line, : len(row)] = row, 1
    feeds = {"input_ids": ids, "attention_mask": mask}
    _, cross = pair.sessions["encoder"].run_kept(feeds, host=())
    decodings = [decoding for _, decoding in sentences.values()]
    return PrefillBatch(list(sentences), decodings, lengths, cross, max(lengths))


def finished(
    pair: Pair, sentences: Mapping[int, tuple[int, Decoding]]
) -> dict[int, list[Hypothesis]]:
    """Translate sentences that all begin at once."""
    rows, found = DecodeBatch(pair.rules), {}
    groups = [newcomers(pair, sentences)]
    while rows.sentences or groups:
        for done in rows.step(pair.sessions, groups):
            found[done.key] = list(done.found)
        groups = []
    return found


DECODINGS = [
    Decoding(1, 1.0, LONGEST),
    Decoding(4, 1.0, LONGEST),
    Decoding(4, 0.6, LONGEST),
    Decoding(2, -1.0, LONGEST - 5),
    Decoding(3, 0.0, 1),
]


@pytest.mark.parametrize("decoding", DECODINGS, ids=str)
def test_together_they_find_what_transformers_finds_alone(pair: Pair, decoding: Decoding) -> None:
    sentences = {key: (key, decoding) for key in range(9)}
    for key, found in finished(pair, sentences).items():
        assert found[0].ids.tolist() == pair.answer(source(key), decoding)


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("penalty", [-0.5, 0.0, 1.0, 2.0])
def test_beam_search_ends_when_transformers_ends_it(
    marian: Pair, early_stopping: Any, penalty: float
) -> None:
    pair = replace(marian, rules=replace(marian.rules, early_stopping=early_stopping))
    _ANSWERS.clear()  # they are of another rule
    sentences = {key: (key + 20, Decoding(4, penalty, LONGEST)) for key in range(8)}
    for key, found in finished(pair, sentences).items():
        assert found[0].ids.tolist() == pair.answer(source(key + 20), sentences[key][1])


@pytest.mark.parametrize("num_beams", [1, 4])
def test_forced_tokens_come_where_transformers_puts_them(marian: Pair, num_beams: int) -> None:
    rules = replace(marian.rules, forced_first_id=7, forced_last_id=2)
    pair = replace(marian, rules=rules)
    _ANSWERS.clear()
    sentences = {key: (key, Decoding(num_beams, 1.0, 6)) for key in range(6)}
    for key, found in finished(pair, sentences).items():
        assert found[0].ids.tolist() == pair.answer(source(key), sentences[key][1])
    _ANSWERS.clear()


@dataclass(frozen=True)
class Event:
    """What happens before a step."""

    joining: tuple[int, ...]
    """Indices of decodings."""
    leaving: tuple[int, ...]
    """Which of the running, counted from the longest there."""


EVENTS = st.lists(
    st.builds(
        Event,
        st.lists(st.integers(0, len(DECODINGS) - 1), max_size=4).map(tuple),
        st.lists(st.integers(0, 5), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=EVENTS, first_seed=st.integers(0, 40), most=st.integers(1, 40))
def test_joining_and_leaving_change_nobodys_answer(
    marian: Pair, events: list[Event], first_seed: int, most: int
) -> None:
    rows = DecodeBatch(marian.rules)
    asked: dict[int, tuple[int, Decoding]] = {}
    running: dict[int, int] = {}
    for event in with_an_end(events):
        leaving = {key for key in (nth(running, n) for n in event.leaving) if key is not None}
        rows.drop(frozenset(leaving))
        for key in leaving:
            del running[key]
        joining = {}
        for index in event.joining:
            decoding = DECODINGS[index]
            if sum(running.values()) + decoding.num_beams > most:
                continue
            key = len(asked)
            joining[key] = asked[key] = (first_seed + key % 30, decoding)
            running[key] = decoding.num_beams
        if not running:
            continue
        groups = [newcomers(marian, joining)] if joining else []
        assert rows.in_use + len(joining) <= sum(running.values())
        for done in rows.step(marian.sessions, groups):
            seed, decoding = asked[done.key]
            assert done.found[0].ids.tolist() == marian.answer(source(seed), decoding)
            del running[done.key]
    assert not running
    assert rows.sentences == rows.in_use == 0


def with_an_end(events: list[Event]) -> Iterator[Event]:
    yield from events
    for _ in range(LONGEST + 1):
        yield Event((), ())


def nth(running: Mapping[int, int], n: int) -> int | None:
    keys = list(running)
    return keys[n] if n < len(keys) else None
