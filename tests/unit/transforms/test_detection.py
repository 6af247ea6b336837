"""Which language a text is in."""

import pytest

from service.transforms.language.detection import detect_language, detect_languages

SENTENCES = {
    "en": "The library is closed on Sundays.",
    "zh": "今天天气很好，我们去公园吧。",
    "de": "Das Wetter ist heute schön.",
    "fr": "Je ne sais pas où est la gare.",
    "es": "¿Dónde está la biblioteca?",
    "ru": "Я не понимаю этот вопрос.",
    "ja": "これは何ですか。",
    "ko": "이해가 안 돼요.",
    "ar": "لا أفهم هذا السؤال.",
    "el": "Δεν καταλαβαίνω.",
    "he": "אני לא מבין.",
    "th": "ฉันไม่เข้าใจ",
    "hi": "मुझे समझ नहीं आया।",
    "no": "Hva gjør dere nå? Vi skal hjem fra skolen, og etterpå ser vi på fjernsyn.",
}


@pytest.mark.parametrize(("language", "text"), SENTENCES.items())
def test_a_sentence_is_known(language: str, text: str) -> None:
    found = detect_language(text)
    assert found is not None
    assert found.language == language
    assert 0.3 < found.confidence <= 1


@pytest.mark.parametrize("text", ["喝茶", "东京", "汤姆", "我"])
def test_a_word_is_of_a_language_of_its_script(text: str) -> None:
    found = detect_language(text, ("zh", "en"))
    assert found is not None
    assert found.language == "zh"


def test_confidences_add_up_to_one() -> None:
    found = detect_languages("Bonjour")
    assert sum(one.confidence for one in found) == pytest.approx(1)
    assert [one.confidence for one in found] == sorted((o.confidence for o in found), reverse=True)


@pytest.mark.parametrize("text", ["", " \n", "123", "🎉", "...", "\0", "\ud800"])
def test_a_text_without_letters_is_of_no_language(text: str) -> None:
    assert detect_language(text) is None


def test_of_languages_asked_for_the_best_is_returned() -> None:
    found = detect_language("Hello", ("de", "en"))
    assert found is not None
    assert found.language == "en"


def test_another_language_is_returned_if_it_is_certain() -> None:
    found = detect_language(SENTENCES["fr"], ("zh", "en"))
    assert found is not None
    assert found.language == "fr"


def test_names_of_models_are_understood() -> None:
    found = detect_language(SENTENCES["no"], ("nob_Latn", "eng_Latn"))
    assert found is not None
    assert found.language == "no"


def test_a_long_text_is_read_from_its_beginning() -> None:
    found = detect_language(SENTENCES["de"] * 100 + SENTENCES["zh"] * 10_000)
    assert found is not None
    assert found.language == "de"
