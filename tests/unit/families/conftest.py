"""A family, and its case, for the tests that run on each."""

from pathlib import Path
from typing import Any

import pytest

from service.families import FAMILIES
from service.families.family import Opened
from tests.unit.families.cases import Case, case_of, open_case


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def case(name: str) -> Case:
    return case_of(name)


@pytest.fixture
def family(name: str, tmp_path: Path) -> Opened[Any, Any]:
    return open_case(name, tmp_path)
