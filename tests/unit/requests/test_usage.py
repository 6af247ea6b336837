"""Tokens are counted by the model's own tokenizer."""

from typing import Any, cast

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from service.errors import LimitExceededError
from service.families.family import Opened, Traits
from service.requests.request import Request
from service.requests.usage import Usage, Whole, count_tokens
from service.tasks import AnyItem, ClassifyItem, EmbedItem, Image, Text
from service.transforms.language.text import TextTokenizer
from tests.sentences import sentence
from tests.unit.api.fakes import FakePipeline

WORDS = {"[CLS]": 0, "[SEP]": 1, "a": 2, "b": 3, "[UNK]": 4}


def tokenizer(cuts_the_end: bool = True) -> TextTokenizer:
    words = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["[CLS]", "[SEP]"])
    words.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [("[CLS]", 0), ("[SEP]", 1)]
    )
    return TextTokenizer(words, cuts_the_end)


def pipeline(most: int = 5, cuts_the_end: bool = True) -> Any:
    fake = FakePipeline("words")
    traits: Traits[Any, Any] = Traits(tokenizer=tokenizer(cuts_the_end), max_tokens=most)
    fake.family = Opened(cast(Any, None), cast(Any, None), traits)
    return fake


@pytest.mark.parametrize(
    ("item", "tokens"),
    [
        (EmbedItem(Text("a b")), 4),
        (ClassifyItem(Text("a b")), 4),
        (ClassifyItem(Text("a b"), text_pair="a"), 6),
        (EmbedItem(Text("a " * 3000)), 3002),
        (EmbedItem(Image(b"")), 0),
    ],
)
async def test_special_tokens_count_and_images_do_not(item: AnyItem, tokens: int) -> None:
    assert await count_tokens(pipeline(), item) == tokens


async def test_usage_counts_what_the_model_reads() -> None:
    usage = Usage()
    for text in ("a", "a a a a a a a"):
        await usage.ask(pipeline(), EmbedItem(Text(text)), Request())
    assert usage.tokens == 3 + 5


@pytest.mark.parametrize(
    ("whole", "cuts_the_end", "refused"),
    [
        (Whole(), True, False),
        (Whole(may_cut=False), True, True),
        (Whole(cuts_the_end=False), True, True),
        (Whole(cuts_the_end=False), False, False),
        (Whole(), False, True),
    ],
)
async def test_a_text_is_not_cut_in_another_way_than_asked(
    whole: Whole, cuts_the_end: bool, refused: bool
) -> None:
    model = pipeline(5, cuts_the_end)
    await whole.ask(model, EmbedItem(Text("a b a")), Request())
    if not refused:
        await whole.ask(model, EmbedItem(Text("a b a b")), Request())
        return
    with pytest.raises(LimitExceededError, check=sentence):
        await whole.ask(model, EmbedItem(Text("a b a b")), Request())


def test_a_text_has_the_same_length_before_and_after_it_was_encoded_and_cut() -> None:
    words, pair = "a b a b a b", ("a b a b", "b")
    lengths = tokenizer().length(words), tokenizer().length(*pair)
    encoder = tokenizer()
    ids, cut = encoder.encode(words, 5)
    assert (len(ids), cut) == (5, True)
    assert len(encoder.encode_pair(*pair, 6)[0]) == 6
    assert (encoder.length(words), encoder.length(*pair)) == lengths == (8, 8)


def test_tokens_have_their_characters_and_special_ones_their_names() -> None:
    found = tokenizer().tokens("a 狗")
    assert [(t.id, t.text, t.is_special, t.start, t.stop) for t in found] == [
        (0, "[CLS]", True, None, None),
        (2, "a", False, 0, 1),
        (4, "狗", False, 2, 3),
        (1, "[SEP]", True, None, None),
    ]
    assert [token.id for token in tokenizer().tokens("a", with_special=False)] == [2]
