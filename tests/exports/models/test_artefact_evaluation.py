"""Any artefact is measured on a data file, by what the service answers."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("faster_coco_eval", reason='needs the extra "train"')

from models.evaluate import command
from models.evaluate.answering import DataFile, questions_of
from models.evaluate.artefact import Artefact, evaluate_artefact, write_into_card, write_results
from models.evaluate.errors import EvaluationError
from models.evaluate.pictures import front
from models.evaluate.rows import labelled, read_rows
from service.tasks import (
    Classification,
    DetectedObject,
    Detections,
    DetectItem,
    Label,
    Mask,
    Task,
    Text,
    Translation,
)
from service.transforms.vision.regions import Region, counts_of
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)

STARTERS = Path("models/repository")
GOLDEN_TOPICS = json.loads((STARTERS / "news-topics/1/goldens.json").read_text())["items"]
TOPICS = [(one["item"]["text"], one["answer"]["labels"][0]["label"]) for one in GOLDEN_TOPICS]


def lines(path: Path, rows: list[dict]) -> DataFile:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return DataFile(path)


def measures(result) -> dict[str, float]:
    return {one.name: one.value for one in result.findings.measures}


@pytest.fixture(scope="module")
def topics(tmp_path_factory: pytest.TempPathFactory):
    """The starter on its own best labels, one of them made wrong."""
    folder = tmp_path_factory.mktemp("topics")
    rows = [{"text": text, "label": label} for text, label in TOPICS]
    wrong = next(row for row in rows if row["label"] != "health")
    wrong["label"] = "health"
    data = lines(folder / "topics.jsonl", rows)
    artefact = Artefact.at(STARTERS / "news-topics")
    return artefact, data, evaluate_artefact(artefact, data, ["fp32"])


def test_a_wrong_label_costs_what_it_should(topics):
    _, _, (result,) = topics
    assert measures(result)["accuracy"] == pytest.approx(1 - 1 / len(TOPICS))
    confusion = result.findings.confusion
    health = list(confusion.labels).index("health")
    assert confusion.counts[health].sum() == confusion.counts[health, health] + 1
    assert confusion.counts.sum() == len(TOPICS)
    assert result.milliseconds > 0
    assert result.megabytes == pytest.approx(2.04, abs=0.1)


def test_json_pictures_and_card_say_what_was_measured(topics, tmp_path: Path):
    artefact, data, results = topics
    write_results(artefact.files(), data.path, results, tmp_path)
    told = json.loads((tmp_path / "evaluation.json").read_text())
    said = told["precisions"]["fp32"]
    assert (told["model"], told["version"]) == ("news-topics", 1)
    assert said["measures"]["accuracy"] == measures(results[0])["accuracy"]
    assert sum(map(sum, said["confusion"]["counts"])) == len(TOPICS)
    for name in ("evaluation.png", "confusion_fp32.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    (tmp_path / "README.md").write_text("# Mine\n\nAbout it.\n")
    for _ in range(2):  # the second replaces what the first wrote
        write_into_card(tmp_path, data.path, results)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("# Mine\n\nAbout it.\n")
    assert card.count("| accuracy |") == card.count("(goldens/evaluation.png)") == 1
    assert (tmp_path / "goldens" / "evaluation.png").is_file()


def test_translations_are_scored_against_all_references(tmp_path: Path):
    rows = [
        {"text": "今天下雨。", "references": ["Rain.", "It is raining here today."]},
        {"text": "他来了。", "reference": "He has come at last."},
    ]
    judge = questions_of(Task.TRANSLATE, lines(tmp_path / "pairs.jsonl", rows)).judge
    right = ["It is raining here today.", "He has come at last."]
    found = judge([Translation(text, "zh", "en", truncated=False) for text in right])
    assert [one.value for one in found.measures] == [pytest.approx(100), pytest.approx(100)]
    found = judge([Translation(text, "zh", "en", truncated=False) for text in reversed(right)])
    assert found.measures[0].value < 20


def test_words_are_counted_by_character_where_no_spaces_part_them(tmp_path: Path):
    data = lines(
        tmp_path / "pairs.jsonl", [{"text": "It rains.", "reference": "今天正在下着大雨呢"}]
    )
    near = Translation("今天正在下着小雨呢", "en", "zho_Hans", truncated=False)
    assert 30 < questions_of(Task.TRANSLATE, data).judge([near]).measures[0].value < 90


def test_an_embedder_is_asked_for_what_its_queries_should_find(tmp_path: Path):
    golden = json.loads((STARTERS / "emoji/1/goldens.json").read_text())["items"]
    folder = (STARTERS / "emoji/1").resolve()
    images = [str(folder / one["item"]["image"]) for one in golden if "image" in one["item"]]
    names = {9: "猫", 10: "pizza", 11: "火箭", 12: "heart"}
    rows = [
        {"query": name, "image": next(i for i in images if i.endswith(f"/{at}.png"))}
        for at, name in names.items()
    ]
    data = lines(tmp_path / "search.jsonl", [*rows, {**rows[2], "query": "rocket"}])
    (result,) = evaluate_artefact(Artefact.at(STARTERS / "emoji/1"), data, ["fp32"])
    found = measures(result)
    assert found["recall@1"] >= 0.8
    assert found["recall@5"] == 1.0


def test_a_detector_is_scored_by_the_measures_of_coco(tmp_path: Path):
    golden = json.loads((STARTERS / "cards/1/goldens.json").read_text())["items"]
    kinds = ["nine", "ten", "jack", "queen", "king", "ace"]
    certain = [
        (at, thing)
        for at, one in enumerate(golden)
        for thing in one["answer"]["objects"]
        if thing["score"] > 0.5
    ]
    table = {
        "images": [{"id": at, "file_name": one["item"]["image"]} for at, one in enumerate(golden)],
        "categories": [{"id": 7 + at, "name": name} for at, name in enumerate(kinds)],
        "annotations": [
            {
                "image_id": at,
                "category_id": 7 + kinds.index(thing["label"]),
                "bbox": [*thing["box"][:2], *np.subtract(thing["box"][2:], thing["box"][:2])],
            }
            for at, thing in certain
        ],
    }
    (tmp_path / "coco.json").write_text(json.dumps(table))
    data = DataFile(tmp_path / "coco.json", STARTERS / "cards/1")
    (result,) = evaluate_artefact(Artefact.at(STARTERS / "cards/1"), data, ["fp32"])
    assert measures(result)["mAP@0.5"] > 0.95
    table["categories"] = [{"id": 7 + at, "name": f"no {at}"} for at in range(6)]
    (tmp_path / "coco.json").write_text(json.dumps(table))
    found = Detections((DetectedObject("ten", 0.9, (1, 1, 9, 9)),), 20, 20)
    with pytest.raises(EvaluationError, check=sentence):
        questions_of(Task.DETECT, data).judge([found] * len(golden))


def test_masks_are_scored_where_the_data_has_some(tmp_path: Path) -> None:
    outline = [10, 10, 50, 10, 50, 40, 10, 40]
    annotation = {"image_id": 0, "category_id": 1, "bbox": [10, 10, 40, 30]}
    table = {
        "images": [{"id": 0, "file_name": "0.png", "width": 80, "height": 60}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{**annotation, "segmentation": [outline]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(table))
    (tmp_path / "0.png").write_bytes(b"")
    questions = questions_of(Task.DETECT, DataFile(tmp_path / "coco.json"))
    (item,) = questions.items
    assert isinstance(item, DetectItem)
    assert item.masks is None
    window = np.ones((30, 40), np.bool_)
    cat = DetectedObject("cat", 0.9, (10, 10, 50, 40))
    for width, score in ((40, 1.0), (10, 0.0)):
        counts = counts_of(Region(window[:, :width], 10, 10, (60, 80))).decode()
        found = Detections((replace(cat, mask=Mask(rle=counts)),), 80, 60)
        scores = {one.name: one.value for one in questions.judge([found]).measures}
        assert scores["COCO mAP of masks"] == pytest.approx(score)
        assert scores["COCO mAP"] == pytest.approx(1.0)
    scores = {one.name for one in questions.judge([Detections((cat,), 80, 60)]).measures}
    assert "COCO mAP of masks" not in scores


def test_where_several_labels_hold_each_counts_from_one_half_on(tmp_path: Path):
    data = lines(
        tmp_path / "several.jsonl",
        [{"text": "one", "labels": ["a", "b"]}, {"text": "two", "labels": []}],
    )
    answers = [
        Classification((Label("a", 0.9), Label("b", 0.4), Label("c", 0.6))),
        Classification((Label("a", 0.1), Label("b", 0.1), Label("c", 0.1))),
    ]
    found = questions_of(Task.CLASSIFY, data).judge(answers)
    by_name = {one.name: one.value for one in found.measures}
    assert (by_name["micro precision"], by_name["micro recall"]) == (0.5, 0.5)
    assert by_name["share of items with all labels right"] == 0.5
    assert found.measures[0].name == "micro F1"


def test_tables_of_tab_separated_values_hold_the_same(tmp_path: Path):
    (tmp_path / "a.tsv").write_text('text\ttext_pair\tlabel\n"one\ttwo\tyes\nthree\t\tno\n')
    one, other = labelled(read_rows(tmp_path / "a.tsv"))
    assert (one.item.content, one.item.text_pair, one.labels) == (Text('"one'), "two", ("yes",))
    assert (other.item.text_pair, other.labels) == (None, ("no",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ""),
        ("a.jsonl", ""),
        ("a.jsonl", '{"text": "a"}\n{'),
        ("a.jsonl", "\n[]"),
        ("a.jsonl", '{"text": "a"}'),
        ("a.jsonl", '{"text": ["a"], "label": "x"}'),
        ("a.jsonl", '{"image": "none.png", "label": "x"}'),
        ("a.jsonl.gz", "not compressed"),
    ],
)
def test_data_that_cannot_be_used_are_refused_by_file_and_line(
    name: str, content: str, tmp_path: Path
):
    (tmp_path / name).write_text(content)
    with pytest.raises(EvaluationError, check=sentence):
        questions_of(Task.CLASSIFY, DataFile(tmp_path / name))


def asked(*arguments: object) -> list[str]:
    return ["evaluate", *map(str, arguments)]


@pytest.mark.parametrize(
    ("row", "precision", "said"),
    [
        ({"text": "a", "label": "sports"}, "fp32", "'sports' is no label of the model"),
        ({"text": " ", "label": "health"}, "fp32", "item 1 of the items: the text is empty"),
        ({"text": "a", "label": "health"}, "q4", "there is no q4, only fp32, int8"),
    ],
)
def test_what_does_not_fit_the_model_is_said_in_a_sentence(
    row: dict, precision: str, said: str, tmp_path: Path, monkeypatch, capsys
):
    data = lines(tmp_path / "a.jsonl", [row])
    place = STARTERS / "news-topics" / "1"
    monkeypatch.setattr(sys, "argv", asked(place, "--items", data.path, "--precisions", precision))
    assert command.main() == 1
    assert said in capsys.readouterr().err


def test_a_folder_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(EvaluationError, check=sentence):
        Artefact.at(tmp_path / "none")
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(EvaluationError, check=sentence):
        Artefact.at(tmp_path / ".hidden")


def test_the_front_is_what_nothing_else_beats():
    assert front([(0, 9), (1, 5), (2, 5), (1, 5)]) == [True, True, False, True]


def test_a_model_chooses_among_the_labels_of_the_file(tmp_path: Path) -> None:
    samples = Path("service/page/samples").resolve()
    names = {"1f308.png": "rainbow", "1f30b.png": "volcano", "1f319.png": "crescent moon"}
    rows = [{"image": str(samples / "emoji" / file), "label": name} for file, name in names.items()]
    data = replace(lines(tmp_path / "emoji.jsonl", rows), has_choices=True)
    (result,) = evaluate_artefact(Artefact.at(STARTERS / "emoji"), data, ["fp32"])
    assert measures(result)["accuracy"] == 1
    assert list(result.findings.confusion.labels) == sorted(names.values())


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        ("news-topics", [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}]),
        ("emoji", [{"text": "a", "label": "b"}]),
        ("emoji", [{"text": "a", "labels": ["b", "c"]}]),
    ],
    ids=["no embedder", "one label", "several hold"],
)
def test_labels_that_a_model_cannot_choose_among_are_refused(
    tmp_path: Path, model: str, rows: list[dict]
) -> None:
    data = replace(lines(tmp_path / "items.jsonl", rows), has_choices=True)
    with pytest.raises(EvaluationError, check=sentence):
        evaluate_artefact(Artefact.at(STARTERS / model), data, ["fp32"])
