"""`models.evaluate --workflow` on the starters."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.evaluate.errors import EvaluationError
from models.evaluate.workflows import evaluate_workflow
from tests.integration.real_service import ROOT, STARTERS

pytestmark = [pytest.mark.timeout(300), pytest.mark.looptime(False)]
SAMPLES = ROOT / "service/page/samples"


def test_the_steps_of_a_workflow_are_measured(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    image = "cards.jpg"  # an ace and a king
    (tmp_path / image).write_bytes((SAMPLES / image).read_bytes())
    rows = [
        {"image": image, "steps": {"cards": ["king", "ace"]}},
        {"image": image, "steps": {"cards": ["ace", "nine", "queen"]}},
    ]
    items.write_text("\n".join(map(json.dumps, rows)))
    command = [sys.executable, "-m", "models.evaluate", "--workflow", "cards", "--items", items]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    table = {
        cells[0]: float(cells[1])
        for line in done.stdout.splitlines()[-5:]
        if len(cells := [each.strip() for each in line.strip("|").split("|")]) == 2
    }
    assert table["steps that failed"] == 0
    assert table["cards: precision of labels"] == 0.75
    assert table["cards: recall of labels"] == 0.6


@pytest.mark.parametrize(
    ("workflow", "row", "reason"),
    [
        ("nothing", {"text": "a"}, "there is no workflow 'nothing'"),
        ("zh-news", {"text": "a"}, "line 1 has no 'steps'"),
        ("zh-news", {"text": "a", "steps": {"tone": "b"}}, "'tone' is no step of the workflow"),
        ("cards", {"text": "a", "steps": {"cards": []}}, "line 1 has no 'image'"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    tmp_path: Path, workflow: str, row: object, reason: str
) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(row))
    with pytest.raises(EvaluationError, match=reason):
        asyncio.run(evaluate_workflow(STARTERS, workflow, items))
