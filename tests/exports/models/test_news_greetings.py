"""The last step of `news-topics`: greetings lose their topic, and headlines keep theirs."""

import pytest

torch = pytest.importorskip("torch")

from models.datasets.files import train_wordpiece  # noqa: E402
from models.datasets.news import GREETINGS, LABELS, TokenRows  # noqa: E402
from models.starters.news_topics import greetings as greetings_module  # noqa: E402
from models.starters.news_topics.greetings import settle_greetings  # noqa: E402
from models.starters.news_topics.model import NewsTopics  # noqa: E402
from models.starters.text_encoder import TextEncoderShape  # noqa: E402

HEADLINES = [
    "hello kitty film opens",
    *(f"shares of bank {at} fall on profit" for at in range(500)),
]


@pytest.fixture
def confident() -> NewsTopics:
    torch.manual_seed(0)
    shape = TextEncoderShape(1000, 32, embedding=16, width=32, layers=1, dropout=0.0)
    model = NewsTopics(shape)
    torch.nn.init.normal_(model.encoder.tokens.weight)
    torch.nn.init.normal_(model.topics.weight)  # so that every text has a topic
    return model.eval()


@torch.no_grad()
def scores(model, tokenizer, texts):
    rows = TokenRows.of(texts, torch.zeros(len(texts), len(LABELS)).numpy(), tokenizer)
    ids, mask, _ = rows.batch(torch.arange(len(texts)).numpy())
    return model(ids, mask).softmax(1)


def test_greetings_lose_their_topic_and_headlines_keep_theirs(confident, monkeypatch):
    monkeypatch.setattr(greetings_module, "STEPS", 150)
    monkeypatch.setattr(greetings_module, "RATE", 3e-2)
    tokenizer = train_wordpiece([*HEADLINES, *GREETINGS], vocabulary_size=1000)
    before = scores(confident, tokenizer, [*GREETINGS, *HEADLINES])
    words = confident.encoder.tokens.weight.detach().clone()
    settle_greetings(confident, tokenizer, HEADLINES)
    after = scores(confident, tokenizer, [*GREETINGS, *HEADLINES])
    talk = len(GREETINGS)
    assert before[:talk].amax(1).mean() > 0.6
    assert after[:talk].amax(1).mean() < 0.4
    assert (after[talk:] - before[talk:]).abs().max() < 0.1
    frequent = tokenizer.token_to_id("profit")
    assert torch.equal(confident.encoder.tokens.weight[frequent], words[frequent])
