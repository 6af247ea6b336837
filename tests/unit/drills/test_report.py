"""What a drill reports: promises, figures, examples and tables."""

from pathlib import Path

import pytest

from drills.report import Report, table


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report("heads", tmp_path)


def test_figures_alone_keep_every_promise(report: Report) -> None:
    report.figure("answers", 1234)
    assert report.is_kept
    assert report.write_examples() is None
    assert report.rows[0].found == "1,234"


def test_a_measured_promise_is_kept_or_broken(report: Report) -> None:
    report.judge("memory returns", found="+3 MB", kept=True)
    assert report.is_kept
    report.judge("memory returns", found="+300 MB", kept=False)
    assert not report.is_kept


def test_one_case_breaks_a_promise_that_looked_kept(report: Report, tmp_path: Path) -> None:
    report.broken("no 5xx", "500 for GET /")
    report.judge("no 5xx")
    assert [(row.found, row.kept) for row in report.rows] == [("1 broken", False)]
    assert not report.is_kept
    assert report.write_examples() == tmp_path / "heads.txt"
    assert (tmp_path / "heads.txt").read_text() == "no 5xx: 500 for GET /\n"


def test_a_broken_promise_that_is_never_judged_is_not_forgotten(report: Report) -> None:
    report.broken("no 5xx", "500 for GET /")
    assert not report.is_kept


def test_the_table_for_a_document_has_a_line_for_each_row(report: Report) -> None:
    report.figure("answers", 5)
    report.judge("no 5xx")
    assert list(table(report.rows, markdown=True)) == [
        "| drill | what | found | kept |",
        "| --- | --- | --- | --- |",
        "| heads | answers | 5 |  |",
        "| heads | no 5xx | yes | yes |",
    ]
