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

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300), pytest.mark.looptime(False)]
SAMPLES = ROOT / "service/page/samples"


def test_the_steps_of_a_workflow_are_measured(tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    for name in ("cards.jpg", "cards_four.jpg"):
        (tmp_path / name).write_bytes((SAMPLES / name).read_bytes())
    rows = [
        {"image": "cards_four.jpg", "steps": {"cards": ["ace"]}},
        {"image": "cards.jpg", "steps": {"cards": []}},
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
    assert 0 <= table["cards: F1 of labels"] < 1  # most cards are missing above
    assert table["cards: precision of labels"] < table["cards: recall of labels"]


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
