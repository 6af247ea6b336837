"""The choice of a worker for a connection, and the pause before an ended worker starts again."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from service.processes.choice import BackOff, Candidate, Silence, choose


def candidate(number: int, connections: int = 0, **changes: object) -> Candidate:
    return replace(Candidate(number, connections, 0, True, True, 0), **changes)  # type: ignore[arg-type]


def test_the_worker_with_the_fewest_connections_gets_the_next() -> None:
    assert choose([candidate(0, 3), candidate(1, 2), candidate(2, 4)]) == 1


def test_of_equal_workers_the_one_that_has_waited_longest_gets_it() -> None:
    assert choose([candidate(0, turn=7), candidate(1, turn=5), candidate(2, turn=6)]) == 1


def test_a_worker_that_does_not_respond_gets_one_only_if_none_does() -> None:
    silent = candidate(0, is_responsive=False)
    assert choose([silent, candidate(1, 50)]) == 1
    assert choose([silent, candidate(1, is_responsive=False, connections=1)]) == 0


def test_a_worker_without_models_gets_one_only_if_none_has_them() -> None:
    assert choose([candidate(0, is_loaded=False), candidate(1, 50)]) == 1
    assert choose([candidate(0, is_loaded=False), candidate(1, is_responsive=False)]) == 0
    assert choose([candidate(0, is_loaded=False)]) == 0


def test_no_worker_gets_more_than_it_can_receive() -> None:
    assert choose([candidate(0, unreceived=63)]) == 0
    assert choose([candidate(0, unreceived=64)]) is None
    assert choose([]) is None


@given(st.lists(st.integers(0, 3), max_size=200), st.integers(2, 5))
def test_connections_differ_by_one_at_most_while_none_closes(
    bursts: list[int], workers: int
) -> None:
    connections, turns, turn = [0] * workers, [0] * workers, 0
    for burst in bursts:
        for _ in range(burst):
            found = choose(
                [
                    candidate(number, connections[number], turn=turns[number])
                    for number in range(workers)
                ]
            )
            assert found is not None
            turn += 1
            connections[found], turns[found] = connections[found] + 1, turn
        assert max(connections) - min(connections) <= 1


def test_workers_that_never_serve_wait_longer_each_time() -> None:
    back_off = BackOff()
    pauses = [back_off.pause(has_served=False) for _ in range(10)]
    assert pauses[:5] == [0.0, 0.5, 1.0, 2.0, 4.0]
    assert pauses[-1] == 30.0


def test_a_worker_that_has_served_starts_again_at_once_however_often_it_ends() -> None:
    back_off = BackOff(failures=5)
    assert [back_off.pause(has_served=True) for _ in range(10)] == [0.0] * 10


def test_silence_counts_looks_at_a_heartbeat_that_stands_still() -> None:
    silence = Silence()
    for heartbeat, looks in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]:
        silence.look(heartbeat)
        assert silence.looks == looks
