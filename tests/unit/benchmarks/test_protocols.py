import pytest

from benchmarks.protocols import PAIRS, Pair, measure
from service.api import ApiContext, Lifecycle, build_api
from service.protocols import protocol_routes
from tests.unit.api.fakes import FakeRegistry


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
async def test_both_requests_of_a_pair_are_answered(pair: Pair) -> None:
    app = build_api(ApiContext(FakeRegistry(), Lifecycle()), None, protocol_routes())
    cost = await measure(app, pair, 2, 1)
    assert cost.more == cost.foreign - cost.native


async def test_a_request_that_fails_is_not_measured() -> None:
    app = build_api(ApiContext(FakeRegistry(), Lifecycle()), None, protocol_routes())
    with pytest.raises(RuntimeError, match="404"):
        await measure(app, Pair("none", PAIRS[0].native, ("/v1/none", {})), 1, 1)
