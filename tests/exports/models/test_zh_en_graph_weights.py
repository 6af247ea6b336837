"""The starter translator's graphs hold all that is needed to rewrite them."""

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra train")

from models.starters.zh_en.export import MAX_SOURCE_LENGTH, SEARCH, write_graphs
from models.starters.zh_en.graph_weights import weights_of_graphs

STARTER = Path(__file__).parents[3] / "models" / "repository" / "zh-en" / "1"


def test_written_again_from_their_own_weights_the_graphs_are_the_same(tmp_path: Path) -> None:
    write_graphs(weights_of_graphs(STARTER, MAX_SOURCE_LENGTH, SEARCH.max_new_tokens), tmp_path)
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == sorted(path.name for path in STARTER.glob("*.onnx"))
    assert all((tmp_path / n).read_bytes() == (STARTER / n).read_bytes() for n in written)
