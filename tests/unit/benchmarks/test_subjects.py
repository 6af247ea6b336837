import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.answerers import open_answerer
from benchmarks.scenarios import agrees
from benchmarks.subjects import Sources, Subject, prepare
from benchmarks.texts import headlines, mixed_texts, photos, sentences_zh, word_pieces
from service.families import FAMILIES
from service.repository.manifest import read_manifest, read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import DetectItem, Image


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("subjects")
    return prepare("detector", Sources(folder, folder))


def test_the_service_finds_in_a_photo_what_the_limit_finds(detector: Subject) -> None:
    manifest = read_manifest(detector.folder / "model.toml")
    entry = FAMILIES[manifest.family]
    family = entry.open(detector.folder, read_parameters(manifest.parameters, entry.parameters))
    graph = detector.folder / manifest.graphs["fp32"]["model"]
    sessions = {"model": OrtSession(graph, Device("cpu"), 1)}
    limit = open_answerer(detector.folder, threads=1)
    found = 0
    for photo in photos():
        item = DetectItem(Image(photo))
        result = family.model.infer(sessions, [family.processor.preprocess(item)])[0]
        served = family.processor.postprocess(result, item)
        expected = limit.answer(photo)["objects"]
        assert [one["label"] for one in expected] == [one.label for one in served.objects]
        np.testing.assert_allclose(
            [one["score"] for one in expected], [one.score for one in served.objects], atol=1e-4
        )
        if expected:
            np.testing.assert_allclose(
                [one["box"] for one in expected], [one.box for one in served.objects], atol=0.05
            )
        found += len(expected)
    assert 0 < found < 200


def test_a_subject_is_made_once(detector: Subject) -> None:
    graph = detector.folder / "model.onnx"
    before = graph.stat().st_mtime_ns
    cache = detector.repository.parent.parent
    again = prepare("detector", Sources(cache, cache))
    assert again == detector
    assert graph.stat().st_mtime_ns == before


def test_the_size_is_that_of_a_small_detector(detector: Subject) -> None:
    assert 2e6 < (detector.folder / "model.onnx").stat().st_size / 4 < 3e6


def test_a_starter_is_copied_alone_and_in_its_newest_version(tmp_path: Path) -> None:
    for model, version in (("news-topics", 2), ("news-topics", 10), ("digits", 1)):
        folder = tmp_path / "starters" / model / str(version)
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text(f"# {version}", encoding="utf-8")
    found = prepare("news-topics", Sources(tmp_path / "cache", tmp_path / "starters"))
    assert found.folder.name == "10"
    assert [path.name for path in found.repository.iterdir()] == ["news-topics"]


def test_a_missing_starter_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="zh-en"):
        prepare("zh-en", Sources(tmp_path, tmp_path))


def test_an_unknown_subject_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="distilbert"):
        prepare("distilbart", Sources(tmp_path, tmp_path))


def test_texts_are_of_mixed_length_and_the_same_each_time() -> None:
    tokenizer = word_pieces(headlines())
    lengths = [len(tokenizer.encode(text).ids) for text in mixed_texts(512)]
    assert mixed_texts(512) == mixed_texts(512)
    assert min(lengths) < 12
    assert 100 < max(lengths) <= 128
    assert 20 < np.median(lengths) < 30


def test_a_text_request_is_json(tmp_path: Path) -> None:
    subject = Subject("zh-en", tmp_path, "/v1/translate", "application/json", sentences_zh())
    assert json.loads(subject.bodies[0]) == {"text": sentences_zh()[0]}


@pytest.mark.parametrize(
    ("expected", "answer", "alike"),
    [
        ({"a": 1.0}, {"a": 1.01, "b": 2}, True),
        ({"a": 1.0}, {"a": 1.1}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        ([{"a": "x"}], [{"a": "x"}], True),
        ([{"a": "x"}], [{"a": "y"}], False),
        ([1.0], [1.0, 2.0], False),
        ([300.0], [303.0], True),
        ([300.0], [310.0], False),
    ],
)
def test_answers_agree_up_to_rounding(expected: object, answer: object, alike: bool) -> None:
    assert agrees(expected, answer) is alike
