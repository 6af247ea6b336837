import pytest

from service.cache.link import Breaker, BreakerState


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(max_faults=3, cool_down=2.0, clock=clock)


def opened(breaker: Breaker) -> Breaker:
    for _ in range(3):
        breaker.failed()
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_it_starts_closed_and_gives_leave_to_everybody(breaker: Breaker) -> None:
    assert breaker.state is BreakerState.CLOSED
    assert [breaker.ask() for _ in range(5)] == [0.0] * 5


def test_it_opens_at_the_last_of_the_faults_in_a_row(breaker: Breaker) -> None:
    breaker.failed()
    breaker.failed()
    assert breaker.state is BreakerState.CLOSED
    breaker.failed()
    assert breaker.state is BreakerState.OPEN


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker) -> None:
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED


def test_open_it_says_how_long_to_wait(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    assert breaker.ask() == 2.0
    clock.now += 1.5
    assert breaker.ask() == 0.5


def test_after_the_cool_down_one_asker_may_try_and_the_others_wait(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 2.0
    assert breaker.ask() == 0.0
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.ask() == 2.0


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 2.0
    breaker.ask()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    breaker.failed()
    assert breaker.state is BreakerState.CLOSED, "the old faults are forgotten"


def test_a_probe_that_fails_opens_it_for_a_whole_cool_down(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 2.0
    breaker.ask()
    clock.now += 0.5
    breaker.failed()
    assert breaker.state is BreakerState.OPEN
    assert breaker.ask() == 2.0


def test_faults_of_earlier_tries_do_not_prolong_the_wait(breaker: Breaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 1.5
    breaker.failed()
    assert breaker.ask() == 0.5


def test_a_probe_that_never_reports_does_not_keep_it_half_open_for_ever(
    breaker: Breaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 2.0
    assert breaker.ask() == 0.0
    clock.now += 2.0
    assert breaker.ask() == 0.0


def test_it_shows_its_state(breaker: Breaker) -> None:
    breaker.failed()
    assert repr(breaker) == "<Breaker closed, 1 faults in a row>"


@pytest.mark.parametrize(("max_faults", "cool_down"), [(0, 1.0), (1, 0.0), (1, -1.0)])
def test_limits_that_make_no_sense_are_refused(max_faults: int, cool_down: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Breaker(max_faults, cool_down, Clock())
