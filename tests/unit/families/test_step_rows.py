"""Rows of running translations: their placement never changes an answer."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.graphs.in_flight import step_graphs
from service.families.translation.decode_batch import DecodeBatch, PrefillBatch, assigned
from service.families.translation.search.candidates import SearchRules
from service.families.translation.search.decoding import Decoding
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.types import Sessions
from tests.unit.families.step_models import DeviceLikeSession, random_weights

pytestmark = pytest.mark.looptime(False)

RULES = SearchRules(start_id=1, eos_ids=(2,))
DECODINGS = [Decoding(1, 1.0, 12), Decoding(3, 1.0, 12), Decoding(4, 0.5, 40)]


OPENED = {
    "fp32": ("fp32", OrtSession),
    "fp32, as on a device": ("fp32", DeviceLikeSession),
    "int8": ("int8", OrtSession),
}


@pytest.fixture(params=OPENED, scope="module")
def sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    arithmetic, kind = OPENED[request.param]
    folder = tmp_path_factory.mktemp(arithmetic)
    opened = {}
    for name, graph in step_graphs(random_weights(30, 24), arithmetic).items():
        (folder / name).write_bytes(graph.SerializeToString())
        opened[name] = kind(folder / name, Device("cpu"), 1)
    return opened


def read(sessions: Sessions, keys: list[int], decodings: list[Decoding]) -> PrefillBatch:
    rows = [np.random.default_rng(key).integers(3, 30, 1 + key % 40) for key in keys]
    longest = max(len(row) for row in rows)
    ids, mask = np.zeros((2, len(rows), longest), np.int64)
    for line, row in enumerate(rows):
        ids[line, : len(row)], mask[line, : len(row)] = row, 1
    feeds = {"input_ids": ids, "attention_mask": mask}
    _, cross = sessions["encoder"].run_kept(feeds, host=())
    return PrefillBatch(keys, decodings, [len(row) for row in rows], cross, longest)


def alone(sessions: Sessions, key: int, decoding: Decoding) -> list[int]:
    rows = DecodeBatch(RULES)
    finished = rows.step(sessions, [read(sessions, [key], [decoding])])
    while rows.sentences:
        finished = rows.step(sessions)
    return finished[0].found[0].ids.tolist()


ARRIVALS = st.lists(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(DECODINGS)), max_size=3),
    min_size=1,
    max_size=8,
)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=ARRIVALS, leaver=st.integers(0, 5))
def test_in_flight_everybody_gets_what_they_get_alone(
    sessions: Sessions, arrivals: list[list[tuple[int, Decoding]]], leaver: int
) -> None:
    rows, asked, found = DecodeBatch(RULES), {}, {}
    pending = list(arrivals)
    while pending or rows.sentences:
        joining = dict(pending.pop(0)) if pending else {}
        joining = {key: one for key, one in joining.items() if key not in asked}
        asked |= joining
        groups = [read(sessions, list(joining), list(joining.values()))] if joining else []
        if groups or rows.sentences:
            found |= {done.key: done.found[0] for done in rows.step(sessions, groups)}
        if len(asked) > leaver and (gone := list(asked)[leaver]) not in found:
            rows.drop(frozenset({gone}))
            found[gone] = None
    for key, answer in found.items():
        if answer is not None:
            assert answer.ids.tolist() == alone(sessions, key, asked[key])
    assert rows.in_use == 0


def test_hypotheses_stay_where_their_parents_are_and_newcomers_fill_the_gaps() -> None:
    rows, free = assigned(np.array([0, 3, 2]), total=4)
    assert rows.tolist() == [0, 3, 2]
    assert free.tolist() == [1]


def test_rows_behind_a_gap_move_into_it() -> None:
    rows, free = assigned(np.array([0, 3, 5]), total=3)
    assert rows.tolist() == [0, 1, 2]
    assert free.tolist() == []


def test_of_siblings_the_first_stays_with_its_parent() -> None:
    rows, _ = assigned(np.array([1, 1, 0, 1]), total=4)
    assert rows.tolist() == [1, 2, 0, 3]


def test_after_a_reset_it_begins_anew(sessions: Sessions) -> None:
    rows = DecodeBatch(RULES)
    rows.step(sessions, [read(sessions, [1, 2], DECODINGS[:2])])
    rows.reset()
    assert (rows.sentences, rows.in_use) == (0, 0)
    finished = list(rows.step(sessions, [read(sessions, [7], DECODINGS[1:2])]))
    while rows.sentences:
        finished += rows.step(sessions)
    assert finished[0].found[0].ids.tolist() == alone(sessions, 7, DECODINGS[1])
