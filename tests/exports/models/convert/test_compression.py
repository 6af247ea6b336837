"""Checkpoints pruned and distilled are checkpoints: smaller, loadable, and still themselves."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

import transformers as tf  # noqa: E402

from models import distil, prune  # noqa: E402
from models.compress.heads import least_heads  # noqa: E402
from models.compress.importance import by_magnitude, by_taylor  # noqa: E402
from models.compress.learning import Course, Lesson, learn  # noqa: E402
from models.compress.lessons import lessons_of, loss_of  # noqa: E402
from models.compress.magnitude import zeros_of  # noqa: E402
from models.compress.structure import stacks_of  # noqa: E402
from models.compress.students import Size, student_of  # noqa: E402
from models.compress.teaching import answers_loss, states_loss, teachers_of  # noqa: E402
from models.compress.writing import weights_of  # noqa: E402
from models.convert.checkpoint import Checkpoint, open_checkpoint  # noqa: E402
from models.convert.convert import exported  # noqa: E402
from models.convert.errors import CheckpointError  # noqa: E402
from tests.exports.exporting import seeded  # noqa: E402
from tests.exports.models.convert import checkpoints  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore::UserWarning")]

WORDS = ["one", "two", "three", "four"]


def data(folder: Path, rows: int = 24) -> Path:
    """Texts whose label is their first word's."""
    random = np.random.default_rng(0)
    labels = dict(zip(WORDS, ("low", "middle", "high", "low"), strict=True))
    path = folder / "rows.jsonl"
    texts = [list(random.choice(WORDS, 5)) for _ in range(rows)]
    path.write_text(
        "\n".join(json.dumps({"text": " ".join(t), "label": labels[t[0]]}) for t in texts)
    )
    return path


def run(module, monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["it", *map(str, arguments)])
    return module.main()


@pytest.fixture
def bert(tmp_path: Path) -> Checkpoint:
    return open_checkpoint(checkpoints.classifier(tmp_path / "checkpoint"))


def silenced(model, layer: int, heads: list[int], neurons: list[int]) -> None:
    """Make parts of a layer write nothing."""
    part, width = model.bert.encoder.layer[layer], 8
    with torch.no_grad():
        for head in heads:
            part.attention.output.dense.weight[:, head * width : (head + 1) * width] = 0
        part.output.dense.weight[:, neurons] = 0


@pytest.mark.parametrize("judge", ["magnitude", "taylor"])
def test_parts_that_say_nothing_are_found(judge: str, bert: Checkpoint, tmp_path: Path):
    silenced(bert.model, 1, [0, 3], [5, 40])
    stacks = stacks_of(bert.model)
    if judge == "magnitude":
        (scores,) = by_magnitude(bert.model, stacks)
    else:
        lessons = lessons_of(bert, data(tmp_path), batch=8)
        before = {name: value.clone() for name, value in bert.model.state_dict().items()}
        (scores,) = by_taylor(bert.model, stacks, loss_of(bert), lessons.epoch())
        assert all(torch.equal(v, before[n]) for n, v in bert.model.state_dict().items())
    assert [len(layer) for layer in scores.heads] == [4, 4]
    assert torch.nonzero(scores.heads[1] == 0).flatten().tolist() == [0, 3]
    assert torch.nonzero(scores.neurons[1] == 0).flatten().tolist() == [5, 40]
    assert bool((scores.heads[0] > 0).all())


def test_the_change_of_the_loss_is_what_the_first_order_says(bert: Checkpoint, tmp_path: Path):
    """Turning a neuron down a little changes the loss by its score, where items agree in sign."""
    lesson = next(lessons_of(bert, data(tmp_path, 1), batch=1).epoch())
    (scores,) = by_taylor(bert.model, stacks_of(bert.model), loss_of(bert), [lesson])
    neuron = int(scores.neurons[0].argmax())
    column = bert.model.bert.encoder.layer[0].output.dense.weight
    with torch.no_grad():
        before = float(loss_of(bert)(lesson))
        column[:, neuron] *= 1 - 1e-3
        after = float(loss_of(bert)(lesson))
    assert abs(after - before) / 1e-3 == pytest.approx(float(scores.neurons[0][neuron]), rel=0.05)


def test_what_said_nothing_is_pruned_away_and_nothing_else_changes(
    bert: Checkpoint, tmp_path: Path, monkeypatch
):
    for layer in (0, 1):
        silenced(bert.model, layer, [1, 2], list(range(24)))
    bert.model.save_pretrained(tmp_path / "checkpoint")
    arguments = [tmp_path / "checkpoint", "--to", tmp_path / "small"]
    assert run(prune, monkeypatch, *arguments, "--heads", "0.5", "--width", "0.5") == 0
    small = open_checkpoint(tmp_path / "small")
    assert small.model.config.pruned_heads == {0: [1, 2], 1: [1, 2]}
    assert small.model.config.intermediate_size == 24
    assert weights_of(small.model) < weights_of(bert.model)
    ids = torch.tensor([[2, 4, 5, 3], [2, 6, 7, 3]])
    with torch.inference_mode():
        wanted = bert.model(input_ids=ids).logits
        bias = 0.0  # the silent neurons had none on the way out
        torch.testing.assert_close(small.model(input_ids=ids).logits, wanted + bias)
    exported(small, tmp_path / "export")  # raises unless the graph answers as PyTorch does


def made(kind: str, folder: Path) -> Path:
    sizes = {**checkpoints.SMALL, "vocab_size": 40, "max_position_embeddings": 40}
    match kind:
        case "vit":
            return checkpoints.image_classifier(folder)
        case "marian":
            return checkpoints.translator(folder)
        case "distilbert":
            config = tf.DistilBertConfig(
                vocab_size=40, max_position_embeddings=32, dim=32, hidden_dim=48, n_layers=2,
                n_heads=4, num_labels=3,
            )  # fmt: skip
            model = seeded(tf.DistilBertForSequenceClassification, config)
        case _:
            config = tf.RobertaConfig(**sizes, num_labels=3, pad_token_id=1)
            model = seeded(tf.RobertaForSequenceClassification, config)
    checkpoints.classifier(folder)  # for its tokenizer
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["distilbert", "roberta", "vit"])
def test_encoders_lose_heads_and_width_and_are_still_exported(
    kind: str, tmp_path: Path, monkeypatch
):
    source = made(kind, tmp_path / "source")
    arguments = [source, "--to", tmp_path / "small", "--heads", "0.25", "--width", "0.5"]
    assert run(prune, monkeypatch, *arguments) == 0
    small = open_checkpoint(tmp_path / "small")
    assert sum(map(len, small.model.config.pruned_heads.values())) == 2
    assert {up.out_features for up in stacks_of(small.model)[0].ups()} == {24}
    exported(small, tmp_path / "export")


def test_a_translator_loses_width_on_both_sides_and_keeps_its_heads(
    tmp_path: Path, monkeypatch, capsys
):
    source = made("marian", tmp_path / "source")
    assert run(prune, monkeypatch, source, "--to", tmp_path / "no", "--heads", "0.5") == 1
    assert "heads of marian stay" in capsys.readouterr().err
    rows = [{"text": "one two", "reference": "two one"}, {"text": "four", "reference": "three"}]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--width", "0.5", "--data", tmp_path / "pairs.jsonl", "--minutes", "0.005"]
    assert run(prune, monkeypatch, source, "--to", tmp_path / "small", *arguments) == 0
    small = open_checkpoint(tmp_path / "small")
    assert (small.model.config.encoder_ffn_dim, small.model.config.decoder_ffn_dim) == (24, 24)
    exported(small, tmp_path / "export")


def test_weights_set_to_zero_stay_zero_while_the_rest_is_tuned(tmp_path: Path, monkeypatch, capsys):
    source = checkpoints.classifier(tmp_path / "source")
    arguments = ["--weights", "0.6", "--data", data(tmp_path), "--minutes", "0.02"]
    arguments += ["--rate", "0.001"]
    assert run(prune, monkeypatch, source, "--to", tmp_path / "small", *arguments) == 0
    small = open_checkpoint(tmp_path / "small")
    assert zeros_of(stacks_of(small.model)) == pytest.approx(0.6, abs=0.001)
    said = capsys.readouterr().out
    losses = [float(line.split("mean loss ")[1].split()[0]) for line in said.splitlines()
              if "mean loss" in line]  # fmt: skip
    assert losses[2] < losses[1]  # tuned, pruned


def test_what_cannot_be_pruned_is_refused_with_what_can(tmp_path: Path, monkeypatch, capsys):
    source = checkpoints.embedder(tmp_path / "source")
    assert run(prune, monkeypatch, source, "--to", tmp_path / "small", "--width", "0.5") == 1
    assert "clip cannot be pruned here; known are bert" in capsys.readouterr().err
    source = checkpoints.classifier(tmp_path / "bert")
    assert run(prune, monkeypatch, source, "--to", source, "--width", "0.5") == 1
    assert "is the source itself" in capsys.readouterr().err


def test_each_layer_keeps_its_best_head():
    layers = [torch.tensor([0.1, 0.2]), torch.tensor([5.0, 4.0])]
    assert least_heads(layers, 0.25) == {0: [0]}
    assert least_heads(layers, 0.99) == {0: [0], 1: [1]}


def test_a_student_is_smaller_agrees_with_its_teacher_and_is_exported(
    tmp_path: Path, monkeypatch, capsys
):
    teacher = checkpoints.classifier(tmp_path / "teacher")
    rows = [json.loads(line) for line in data(tmp_path, 64).read_text().splitlines()]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("\n".join(json.dumps({"text": row["text"]}) for row in rows))
    arguments = [teacher, "--to", tmp_path / "small", "--data", bare, "--minutes", "0.08"]
    arguments += ["--layers", 1, "--width", 16, "--rate", "0.01"]
    assert run(distil, monkeypatch, *arguments) == 0
    student = open_checkpoint(tmp_path / "small")
    config = student.model.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (1, 16, 24)
    said = capsys.readouterr().out.rpartition("for ")[2]
    assert float(said.partition("%")[0]) > 85
    exported(student, tmp_path / "export")


def test_a_student_as_wide_as_its_teacher_starts_with_its_last_layers(bert: Checkpoint):
    student = student_of(bert, Size(layers=1))
    of = bert.model.bert.encoder.layer[1].state_dict()
    own = student.bert.encoder.layer[0].state_dict()
    assert all(torch.equal(value, of[name]) for name, value in own.items())
    same = student_of(bert, Size())
    ids = torch.tensor([[2, 4, 5, 3]])
    torch.testing.assert_close(same(input_ids=ids).logits, bert.model(input_ids=ids).logits)


@pytest.mark.parametrize("size", [Size(width=30, heads=4), Size(width=16, heads=3)])
def test_heads_that_do_not_divide_the_width_are_refused(size: Size, bert: Checkpoint):
    with pytest.raises(CheckpointError, check=sentence):
        student_of(bert, size)


def test_a_translator_is_no_teacher_here(tmp_path: Path):
    source = open_checkpoint(checkpoints.translator(tmp_path / "source"))
    with pytest.raises(CheckpointError, check=sentence):
        student_of(source, Size(layers=1))


def test_states_are_compared_at_the_same_share_of_the_depth():
    assert teachers_of(3, 5) == [0, 2, 4]
    assert teachers_of(5, 5) == [0, 1, 2, 3, 4]
    assert teachers_of(2, 7) == [0, 6]


def test_losses_are_zero_for_what_is_alike_and_blind_to_padding():
    torch.manual_seed(0)
    one, other = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    padded = torch.where(mask[:, :, None].bool(), one, other)
    assert float(states_loss(padded, one, mask)) == 0
    assert float(states_loss(one, other, mask)) > 0.1
    assert float(answers_loss(one[:, 0], one[:, 0] + 3, 2.0)) == pytest.approx(0, abs=1e-6)
    hot, cold = (float(answers_loss(one[:, 0] * 1e-2, other[:, 0] * 1e-2, t)) for t in (8.0, 4.0))
    assert hot == pytest.approx(cold, rel=0.1)  # the square keeps small losses as they are


def test_there_must_be_something_to_learn_from():
    module = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, check=sentence):
        learn(module, lambda _: module(torch.ones(2)).sum(), lambda: iter(list[Lesson]()),
              Course(0.01, 0.1))  # fmt: skip
