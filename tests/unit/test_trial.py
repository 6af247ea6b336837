"""What is compared of a model without goldens."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.families.detector import DetectorParameters, open_detector
from service.registry.candidates import relative_difference
from service.registry.trial import Trial
from service.tasks import Task
from service.types import TensorSpec
from tests.unit.families.sessions import NumpySession

LIMIT = 0.25


def finds(score: float) -> NumpySession:
    """Two objects, one of them at the limit of what is kept."""
    columns = np.zeros((5, 8), np.float32)
    columns[:, :2] = np.array([[20, 20, 10, 10, 0.9], [50, 50, 8, 8, score]]).T

    def compute(feeds: Any) -> Any:
        return {"output0": np.stack([columns] * len(feeds["images"]))}

    return NumpySession(compute, {"images": TensorSpec("float32", (None, 3, 64, 64))})


def computed(tmp_path: Path, score: float) -> Any:
    own = DetectorParameters(labels=["a"], image_size=64, score_threshold=LIMIT)
    family = open_detector(tmp_path, own)
    files: Any = SimpleNamespace(goldens=(), manifest=SimpleNamespace(task=Task.DETECT))
    version: Any = SimpleNamespace(family=family, runnable=SimpleNamespace(model=family.model))
    nothing: Any = None
    trial = Trial(nothing, nothing, files, version, "strict", 4)
    return trial._computed({"model": finds(score)})[1]


@pytest.mark.parametrize(("error", "wanted"), [(1e-5, 1e-5), (0.1, 0.11)])
def test_what_a_detector_keeps_may_jump_and_its_scores_may_not(
    error: float, wanted: float, tmp_path: Path
) -> None:
    one, other = (computed(tmp_path, LIMIT + shift) for shift in (error / 2, -error / 2))
    found = max(map(relative_difference, other, one))
    assert found == pytest.approx(wanted, rel=0.3)
    assert len(one) == 5
