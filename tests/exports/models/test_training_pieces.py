"""What the recipes share, on inputs small enough to check by hand."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from models.datasets.files import (  # noqa: E402
    MASK_ID,
    PAD_ID,
    SPECIAL_TOKENS,
    batches_by_length,
    data_folder,
    pad_rows,
    read_jsonl,
    train_wordpiece,
)
from models.datasets.near_copies import NearCopies  # noqa: E402
from models.datasets.news import (  # noqa: E402
    Headline,
    TokenRows,
    varied,
)
from models.pace import Pace, WeightAverage  # noqa: E402
from models.starters.curves import Curves  # noqa: E402
from models.starters.news_topics.teacher import Teacher  # noqa: E402
from models.starters.text_encoder import (  # noqa: E402
    TextEncoder,
    TextEncoderShape,
    mask_words,
)
from tests.sentences import sentence  # noqa: E402


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_is_the_share_of_the_time_that_has_gone():
    clock = Clock()
    pace = Pace(minutes=1, clock=clock)
    seen = []
    for _ in range(8):
        seen.append(pace.progress())
        clock.now += 10
    assert seen == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1])


def test_a_machine_that_slept_does_not_end_the_training():
    clock = Clock()
    pace = Pace(minutes=1, clock=clock)
    pace.progress()
    clock.now += 3600
    assert pace.progress() == pytest.approx(0.25)


def test_the_rate_rises_then_falls_and_never_reaches_zero():
    pace = Pace(minutes=1, warmup=0.1, floor=0.01)
    rates = [pace.rate(step / 100) for step in range(101)]
    peak = rates.index(max(rates))
    assert peak == 10
    assert rates[peak] == pytest.approx(1)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[0] == rates[-1] == pytest.approx(0.01)


def test_averaged_weights_follow_and_lag_behind():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 1.0)
    average = WeightAverage(layer, decay=0.9)
    torch.nn.init.constant_(layer.weight, 2.0)
    values = []
    for _ in range(200):
        average.update(layer)
        values.append(float(average.module.weight))
    assert 1 < values[0] < 2
    assert values == sorted(values)
    assert values[-1] == pytest.approx(2, abs=1e-3)
    assert not average.module.weight.requires_grad


def test_an_epoch_has_every_row_once_in_batches_of_similar_length():
    lengths = np.random.default_rng(0).integers(1, 60, 1000)
    batches = batches_by_length(list(lengths), 16, np.random.default_rng(1))
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    assert max(map(len, batches)) == 16
    wasted = sum(lengths[batch].max() * len(batch) - lengths[batch].sum() for batch in batches)
    assert wasted < 0.05 * lengths.sum()
    first = [lengths[batch].mean() for batch in batches]
    assert first != sorted(first)


def test_rows_are_padded_to_the_longest():
    ids, mask = pad_rows([[5, 6], [7]], pad_id=9)
    assert ids.tolist() == [[5, 6], [7, 9]]
    assert mask.tolist() == [[1, 1], [1, 0]]
    assert ids.dtype == mask.dtype == np.int64


def test_a_missing_data_set_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, check=sentence):
        data_folder(tmp_path, "mnist")


def test_json_lines_may_hold_any_unicode_line_break(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"a": "x\u2028y"}\n\n{"a": "汉"}\n', encoding="utf-8")
    assert [row["a"] for row in read_jsonl(tmp_path / "rows.jsonl")] == ["x\u2028y", "汉"]


def test_tokenizers_wrap_texts_and_cut_chinese_into_characters():
    tokenizer = train_wordpiece(["red heart", "红心", "Red Hearts"], vocabulary_size=60)
    assert [tokenizer.token_to_id(name) for name in SPECIAL_TOKENS] == list(range(5))
    assert (SPECIAL_TOKENS[PAD_ID], SPECIAL_TOKENS[MASK_ID]) == ("[PAD]", "[MASK]")
    assert tokenizer.encode("红心").tokens == ["[CLS]", "红", "心", "[SEP]"]
    assert tokenizer.encode("RED").ids == tokenizer.encode("red").ids


def test_masking_hides_words_and_never_special_tokens():
    ids = torch.tensor([[2, *range(5, 55), 3, PAD_ID]])
    assert mask_words(ids, 0.0).equal(ids)
    torch.manual_seed(0)
    hidden = mask_words(ids.expand(400, -1), 0.5)
    assert (hidden[:, [0, -2, -1]] == torch.tensor([2, 3, PAD_ID])).all()
    shares = (hidden[:, 1:-2] == MASK_ID).float().mean(1)
    assert shares.mean() == pytest.approx(0.25, abs=0.02)
    assert shares.std() > 0.1  # some texts are left nearly whole, some are half hidden


def test_padding_does_not_change_a_text_vector():
    torch.manual_seed(0)
    shape = TextEncoderShape(30, max_length=12, embedding=8, width=16, layers=2, heads=2)
    encoder = TextEncoder(shape).eval()
    ids = torch.tensor([[2, 9, 8, 7, 3]])
    alone = encoder(ids, torch.ones_like(ids))
    mask = torch.tensor([[1] * 5 + [0] * 7])
    padded = encoder(torch.cat([ids, torch.full((1, 7), 29)], 1), mask)
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=0)
    different = encoder(ids.flip(1), torch.ones_like(ids))
    assert not torch.allclose(different, alone, atol=1e-2)  # so the order of words counts


def test_varied_texts_keep_the_order_of_words_and_are_never_empty():
    texts = [f"a{n} b{n} c{n} d{n}" for n in range(200)] + ["one"] * 20
    changed = varied(texts, np.random.default_rng(0))
    assert len(changed) == len(texts)
    assert all(changed)
    same = sum(old == new for old, new in zip(texts, changed, strict=True))
    assert 0.25 * len(texts) < same < 0.5 * len(texts)
    for old, new in zip(texts, changed, strict=True):
        own = [word for word in new.split() if word in old.split()]
        assert own == sorted(own)
    mixed = [new for new in changed if len({word[1:] for word in new.split()}) > 1]
    assert mixed  # some are made of two


def test_the_teacher_knows_words_it_saw_under_one_topic_and_learns_from_labels_only():
    headlines = [Headline(f"{word} {n} today", topic) for topic, word in TOPICS for n in range(6)]
    teacher = Teacher([*headlines, Headline("vaccine shares film phone", None)])
    answers = teacher.answers([f"the {word}" for _, word in TOPICS] + ["nothing known"])
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    assert answers[:4].argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert answers[:4].max(axis=1).min() > answers[4].max()


TOPICS = ((0, "shares"), (1, "film"), (2, "vaccine"), (3, "phone"))


def test_batches_of_headlines_hold_the_answers_of_their_rows():
    tokenizer = train_wordpiece(["red heart", "blue"], vocabulary_size=60)
    answers = np.eye(3, dtype=np.float32)
    rows = TokenRows.of(["red heart", "blue", "red"], answers, tokenizer)
    ids, mask, taught = rows.batch(np.array([2, 0]))
    assert mask.sum(1).tolist() == [len(rows.rows[2]), len(rows.rows[0])]
    assert ids[0, : len(rows.rows[2])].tolist() == rows.rows[2]
    assert taught.tolist() == answers[[2, 0]].tolist()


def test_near_copies_share_seventy_percent_of_their_words():
    near = NearCopies(["Ebola kills 80 in Guinea, WHO says", "nothing alike"])
    assert "ebola kills 80 in guinea who says" in near
    assert "Ebola kills 90 in Guinea, WHO says" in near  # 6 of 8 words
    assert "Ebola kills many in Liberia, WHO says" not in near
    assert "" not in near


def test_curves_are_drawn_into_one_picture(tmp_path):
    curves = Curves("title")
    for step in range(3):
        curves.record(step, loss={"train": 1.0 / (step + 1)}, accuracy={"dev": step / 3})
    assert curves.last("loss", "train") == pytest.approx(1 / 3)
    curves.draw(tmp_path / "new" / "curves.png")
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")
