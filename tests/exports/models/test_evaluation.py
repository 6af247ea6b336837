"""Measures of hand-made cases, and what the evaluation says and writes."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from models.evaluate import command
from models.evaluate.measures import Measure, markdown_table
from models.evaluate.scores import (
    classification_scores,
    expected_calibration_error,
    recall_at,
    rouge_l,
)
from models.evaluate.translation import aligned_references, generation_measures
from tests.sentences import sentence


def test_macro_measures_count_each_label_the_same():
    scores = classification_scores(list("aaab"), list("aabb"))
    assert scores.accuracy == 0.75
    assert scores.macro_recall == pytest.approx((2 / 3 + 1) / 2)
    # F1 of a: precision 1, recall 2/3; of b: precision 1/2, recall 1
    assert scores.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_a_label_that_is_never_answered_scores_zero():
    scores = classification_scores(list("ab"), list("aa"))
    assert (scores.accuracy, scores.macro_recall) == (0.5, 0.5)
    assert scores.macro_f1 == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize(("truth", "answers"), [([], []), (["a"], ["a", "b"])])
def test_there_must_be_one_answer_to_each_of_some_questions(truth, answers):
    with pytest.raises(ValueError, match=r"nothing|argument"):
        classification_scores(truth, answers)


def test_calibration_compares_scores_with_the_share_of_right_answers():
    assert expected_calibration_error([0.8] * 5, [True] * 4 + [False]) == pytest.approx(0)
    assert expected_calibration_error([1.0, 1.0], [True, False]) == pytest.approx(0.5)
    # two bins: one says too much by 0.3, one too little by 0.5
    assert expected_calibration_error([0.3, 0.5], [False, True]) == pytest.approx(0.4)


@pytest.mark.parametrize(("scores", "right"), [([], []), ([0.5], [True, False])])
def test_calibration_needs_an_answer_to_each_score(scores, right):
    with pytest.raises(ValueError, check=sentence):
        expected_calibration_error(scores, right)


UNIT = np.eye(4, dtype=np.float32)


def test_recall_counts_queries_whose_own_row_is_near_enough():
    queries = np.array([[1, 0, 0, 0], [0.8, 0.6, 0, 0]], np.float32)
    assert recall_at(queries, UNIT, [0, 1], 1) == 0.5
    assert recall_at(queries, UNIT, [0, 1], 2) == 1.0


def test_a_model_that_answers_everything_alike_finds_nothing():
    same = np.tile(UNIT[:1], (4, 1))
    assert recall_at(same, same, range(4), 1) == 0.0
    assert recall_at(same, same, range(4), 4) == 1.0


def test_a_summary_is_compared_with_the_nearest_reference_by_common_words_in_order():
    assert rouge_l("The cat sat.", ["the CAT sat"]) == 1
    assert rouge_l("cat the", ["the cat"]) == 0.5
    assert rouge_l("a b c", ["x", "a c"]) == pytest.approx(4 / 5)
    assert rouge_l("", ["a"]) == rouge_l("...", [""]) == 0


def test_texts_that_equal_a_reference_have_the_best_measures():
    measures = generation_measures(["one two", "three"], [["x", "one two"], ["three"]])
    assert [(one.name, one.value) for one in measures] == [("ROUGE-L", 100), ("chrF", 100)]


def test_the_table_has_a_row_a_measure_and_a_column_a_precision():
    table = markdown_table(
        {
            "fp32": [Measure("accuracy", 0.98765), Measure("BLEU", 20.456, 1)],
            "int8": [Measure("accuracy", 0.9), Measure("BLEU", 20, 1)],
        }
    )
    assert table == (
        "| measure | fp32 | int8 |\n| --- | ---: | ---: |\n"
        "| accuracy | 0.9877 | 0.9000 |\n| BLEU | 20.5 | 20.0 |"
    )


def test_precisions_that_were_measured_differently_make_no_table():
    with pytest.raises(ValueError, check=sentence):
        markdown_table({"fp32": [Measure("a", 1)], "int8": [Measure("b", 1)]})


def test_sentences_with_fewer_references_leave_later_streams_empty():
    assert aligned_references([["a"], ["b", "c"]]) == [["a", "b"], [None, "c"]]


def test_every_starter_of_the_repository_is_measured():
    present = {path.name for path in command.REPOSITORY.iterdir() if path.is_dir()}
    assert present - {"workflows"} <= set(command.SUBJECTS)


def test_missing_data_sets_are_named_before_anything_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "mnist").mkdir()
    arguments = ["evaluate", "--data", str(tmp_path), "--models", "digits", "news-topics", "zh-en"]
    monkeypatch.setattr(sys, "argv", arguments)
    assert command.main() == 2
    said = capsys.readouterr().err
    assert "mnist" not in said.replace(str(tmp_path), "")
    for name in ("news_aggregator", "tatoeba_zh_en", "pydocs_zh_en", "ntrex_zh_en_eval"):
        assert name in said


def test_a_model_that_cannot_be_loaded_fails_the_evaluation(tmp_path, monkeypatch, capsys):
    (tmp_path / "data" / "mnist").mkdir(parents=True)
    version = tmp_path / "repository" / "digits" / "1"
    version.mkdir(parents=True)
    Path(version, "model.toml").write_text("task = 'classify'")
    arguments = ["evaluate", "--data", str(tmp_path / "data"), "--models", "digits"]
    arguments += ["--repository", str(tmp_path / "repository")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert command.main() == 1
    assert "digits" in capsys.readouterr().err
