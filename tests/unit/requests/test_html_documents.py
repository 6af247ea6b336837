"""HTML documents and detected languages, on a translator that puts texts in brackets."""

from typing import Any, cast

import pytest

from service.errors import InvalidInputError, LimitExceededError
from service.families.family import Opened, Traits
from service.requests.documents import Documents
from service.requests.html import HtmlDocuments
from service.requests.languages import DetectedTranslation
from service.requests.request import Request
from service.requests.segment_stream import DocumentLimits, Translator
from service.tasks import TranslateItem, Translation
from tests.sentences import sentence
from tests.unit.api.fakes import FakePipeline

LIMITS = DocumentLimits(most_segments=20, patience=30.0)


def pipeline(languages: Any = None) -> Any:
    fake = FakePipeline("zh-en")
    fake.family = Opened(cast(Any, None), cast(Any, None), Traits(languages=languages))
    return fake


async def translated(text: str, translator: Translator | None = None, **options: Any) -> Any:
    documents = HtmlDocuments(LIMITS)
    item = TranslateItem(text, **options)
    return (await documents.answer(translator or pipeline(), item, Request())).answer


async def test_every_text_of_a_document_is_translated() -> None:
    answer = await translated("<h1>天</h1><p id=a>好</p><pre>天</pre>")
    assert answer.text == "<h1>[天]</h1><p id=a>[好]</p><pre>天</pre>"
    assert (answer.source, answer.target) == ("zh", "en")


async def test_markup_is_put_around_its_words() -> None:
    assert (await translated("<p>a <b>tree</b> grows</p>")).text == "<p>[a <b>tree</b> grows]</p>"


async def test_a_document_without_words_is_returned_as_it_is() -> None:
    translator = pipeline((("zh",), ("en",)))
    answer = await translated("<img src=x> 12", translator, source="auto")
    assert answer == Translation("<img src=x> 12", "zh", "en", truncated=False)
    assert not translator.asked


async def test_what_is_kept_is_a_term_of_its_sentence_and_not_reported() -> None:
    translator = pipeline()
    answer = await translated("请用<code>f()</code>吧", translator, glossary=(("请", "please"),))
    item = translator.asked[0][0]
    assert item.text == "请用f()吧"
    assert set(item.glossary) == {("f()", "f()"), ("请", "please")}
    assert answer.text == "[请用<code>f()</code>吧]"
    assert answer.glossary == ()


async def test_too_many_segments_are_refused() -> None:
    with pytest.raises(LimitExceededError):
        await translated("<p>天" * 21)


async def test_alternatives_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        await translated("<p>天", alternatives=2)


async def test_an_error_of_a_segment_is_that_of_the_document() -> None:
    with pytest.raises(Exception, match="failed"):
        await translated("<p>天<p>inference")


async def test_the_language_is_detected_among_those_of_the_model() -> None:
    translator = pipeline((("zho_Hans", "fra_Latn"), ("eng_Latn",)))
    outcome = await Documents(LIMITS).answer(
        translator, TranslateItem("今天天气很好", "auto"), Request()
    )
    assert isinstance(outcome.answer, DetectedTranslation)
    assert outcome.answer.detection is not None
    assert outcome.answer.detection.language == "zh"
    assert translator.asked[0][0].source == "zho_Hans"


async def test_html_is_detected_by_its_texts() -> None:
    translator = pipeline((("zh", "fr"), ("en",)))
    answer = await translated(
        '<p class="the-library is-closed">天气很好</p>', translator, source="auto"
    )
    assert answer.detection.language == "zh"


@pytest.mark.parametrize("text", ["Bonjour tout le monde", "The library is closed"])
async def test_a_text_of_another_language_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        await Documents(LIMITS).answer(
            pipeline((("zh",), ("en",))), TranslateItem(text, "auto"), Request()
        )


async def test_without_letters_the_only_source_is_taken() -> None:
    single = pipeline((("zh",), ("en",)))
    outcome = await Documents(LIMITS).answer(single, TranslateItem("123", "auto"), Request())
    assert outcome.answer.text == "[123]"
    several = pipeline((("zh", "fr"), ("en",)))
    with pytest.raises(InvalidInputError, check=sentence):
        await Documents(LIMITS).answer(several, TranslateItem("123", "auto"), Request())
