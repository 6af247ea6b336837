from io import StringIO
from pathlib import Path

import orjson
from rich.console import Console

from benchmarks.in_process import open_text_or_image
from benchmarks.peers.answering import answers
from benchmarks.peers.results import Cell, Footprint, Found, Reading, draw, table, write_json

NEWS = Path("models/repository/news-topics")


def reading(server: str, batch: int | None, rate: float, concurrency: int = 8) -> Reading:
    return Reading("tiny", server, batch, concurrency, rate, 100.0, 0.001, rate / 10_000)


FOUND = Found(
    {"cores": 2},
    [
        *(reading("mosec", 1, rate) for rate in (50.0, 70.0, 60.0)),
        *(reading("mosec", 8, rate) for rate in (80.0, 20.0, 90.0)),
        *(reading("quartet", None, rate) for rate in (40.0, 85.0, 95.0)),
    ],
    [Footprint("tiny", "quartet", None, 90.0, 1.0), Footprint("tiny", "mosec", 1, 200.0, 1.0)],
)


def test_a_cell_is_the_median_of_the_rounds_at_the_best_size_of_batch() -> None:
    assert FOUND.cell("tiny", "mosec", 8) == Cell(0.8, 80.0, 0.008, 8)
    assert FOUND.cell("tiny", "quartet", 8) == Cell(0.85, 85.0, 0.0085, None)


def test_the_table_has_a_row_for_each_server() -> None:
    console = Console(width=150, record=True, file=StringIO())
    console.print(table(FOUND, "tiny"))
    shown = console.export_text()
    assert "0.80 / 8.0 (8)" in shown
    assert "0.85 / 8.5" in shown
    assert shown.index("quartet") < shown.index("mosec")


def test_every_reading_is_written_and_drawn(tmp_path: Path) -> None:
    write_json(FOUND, tmp_path / "peers.json")
    draw(FOUND, tmp_path / "peers.png")
    assert len(orjson.loads((tmp_path / "peers.json").read_bytes())["readings"]) == 9
    assert (tmp_path / "peers.png").stat().st_size > 1_000


def test_a_worker_answers_a_batch_as_it_answers_each_item() -> None:
    (folder,) = (path.parent for path in NEWS.glob("*/model.toml"))
    model = open_text_or_image(folder, threads=1)
    texts = ["Stocks fall as oil prices slide", "New film wins three awards"]
    together = answers(model, texts)
    assert isinstance(together, list)
    for text, answer in zip(texts, together, strict=True):
        alone = answers(model, text)
        assert isinstance(alone, dict)
        assert [label["label"] for label in alone["labels"]] == [
            label["label"] for label in answer["labels"]
        ]
