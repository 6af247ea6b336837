"""The translator's network: steps, padding and checkpoints."""

from dataclasses import asdict

import pytest

torch = pytest.importorskip("torch")

from models.starters.zh_en.model import (  # noqa: E402
    BOS_ID,
    Dropout,
    Translator,
    TranslatorSizes,
    load_translator,
)
from models.starters.zh_en.search import pad  # noqa: E402

SIZES = TranslatorSizes(50, 40, 8, 16, 2, 2, 24, 2, 24)


@pytest.fixture
def model() -> Translator:
    torch.manual_seed(0)
    return Translator(SIZES).eval()


def test_one_step_at_a_time_gives_the_same_states_as_the_whole_sentence(model) -> None:
    source_ids, mask = pad([[5, 6, 7, 2], [8, 2]])
    target = torch.tensor([[BOS_ID, 9, 10, 11], [BOS_ID, 12, 13, 14]])
    source = model.encode(source_ids, mask)
    whole, _ = model.decode(target, source, mask)
    past, steps = None, []
    for position in range(target.shape[1]):
        states, past = model.decode(target[:, position : position + 1], source, mask, past)
        steps.append(states)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)


def test_a_later_target_token_does_not_change_an_earlier_state(model) -> None:
    source_ids, mask = pad([[5, 6, 2]])
    source = model.encode(source_ids, mask)
    first, _ = model.decode(torch.tensor([[BOS_ID, 9, 10]]), source, mask)
    other, _ = model.decode(torch.tensor([[BOS_ID, 9, 30]]), source, mask)
    torch.testing.assert_close(first[:, :2], other[:, :2])
    assert not torch.allclose(first[:, 2], other[:, 2])


def test_padding_does_not_change_what_a_sentence_means(model) -> None:
    alone = model.encode(*pad([[8, 9, 2]]))
    padded = model.encode(*pad([[8, 9, 2], [5, 6, 7, 8, 9, 2]]))
    for one, other in zip(alone, padded, strict=True):
        torch.testing.assert_close(one.keys[0], other.keys[0, :, :3])
        torch.testing.assert_close(one.values[0], other.values[0, :, :3])


def test_the_output_layer_is_the_target_table(model) -> None:
    names = dict(model.named_parameters())
    assert sum(weight.shape[0] == SIZES.target_vocabulary for weight in names.values()) == 2
    assert {name for name in names if "target_table" in name} == {"target_table.weight"}


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropped = Dropout(0.25)(torch.ones(200, 500))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(Dropout(0.25).eval()(torch.ones(3)), torch.ones(3))


def test_two_dropouts_of_one_network_drop_differently() -> None:
    torch.manual_seed(0)
    first, second = Dropout(0.5), Dropout(0.5)
    assert not torch.equal(first(torch.ones(100)), second(torch.ones(100)))


def test_a_checkpoint_gives_the_same_network_back(model, tmp_path) -> None:
    state = {"sizes": asdict(SIZES), "weights": model.state_dict(), "dev": 1.0}
    torch.save(state, tmp_path / "best.pt")
    loaded = load_translator(tmp_path / "best.pt")
    source_ids, mask = pad([[5, 6, 2]])
    one, other = model.encode(source_ids, mask), loaded.encode(source_ids, mask)
    torch.testing.assert_close(one[0].keys, other[0].keys, rtol=0, atol=0)
