"""LibreTranslate: what its clients send in other ways, and what the table does not hold."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from service.protocols.libretranslate import _alternatives
from service.registry.status import ModelState, VersionStatus
from service.tasks import Alternative, FinishReason, Task, Translation


@pytest.fixture
def translators(registry: Any, monkeypatch: pytest.MonkeyPatch) -> Sequence[VersionStatus]:
    """Let the fake registry have a translator of three languages."""
    status = VersionStatus(
        "zh-en",
        1,
        ModelState.READY,
        Task.TRANSLATE,
        default_for=("text",),
        source_languages=("zho_Hans", "fra_Latn"),
        target_languages=("eng_Latn",),
    )
    monkeypatch.setattr(registry, "statuses", lambda: [status])
    return [status]


async def ask(client: httpx.AsyncClient, **body: Any) -> Any:
    response = await client.post("/translate", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_form_and_a_query_are_read_like_json(client: httpx.AsyncClient) -> None:
    values = {"q": "狗 & 脸", "source": "zh", "target": "en", "api_key": ""}
    expected = {"translatedText": "[狗 & 脸]"}
    assert (await client.post("/translate", data=values)).json() == expected
    assert (await client.post("/translate", params=values)).json() == expected
    files = {name: (None, value) for name, value in values.items()}
    assert (await client.post("/translate", files=files)).json() == expected


@pytest.mark.usefixtures("translators")
async def test_a_detected_language_is_returned(client: httpx.AsyncClient, registry: Any) -> None:
    answer = await ask(client, q="今天天气很好", source="auto", target="en")
    assert answer["translatedText"] == "[今天天气很好]"
    assert answer["detectedLanguage"]["language"] == "zh"
    assert 50 < answer["detectedLanguage"]["confidence"] <= 100
    item = registry.pipelines[Task.TRANSLATE, "text"].asked[0][0]
    assert (item.source, item.target) == ("zho_Hans", "eng_Latn")
    answer = await ask(client, q=["今天天气很好", "我"], source="auto", target="en")
    assert [one["language"] for one in answer["detectedLanguage"]] == ["zh", "zh"]


@pytest.mark.usefixtures("translators")
async def test_a_text_in_the_target_language_stays(client: httpx.AsyncClient) -> None:
    text = "The library is closed."
    answer = await ask(client, q=text, source="auto", target="en")
    assert answer["translatedText"] == text
    assert answer["detectedLanguage"]["language"] == "en"
    assert (await ask(client, q=[text], source="en", target="en"))["translatedText"] == [text]


@pytest.mark.usefixtures("translators")
@pytest.mark.parametrize(
    ("source", "target", "refused"), [("zz", "en", "zz"), ("zh", "de", "de"), ("en", "zh", "en")]
)
async def test_unknown_languages_are_refused(
    client: httpx.AsyncClient, source: str, target: str, refused: str
) -> None:
    body = {"q": "text", "source": source, "target": target}
    response = await client.post("/translate", json=body)
    assert response.status_code == 400
    assert refused in response.json()["error"]


async def test_blank_texts_stay(client: httpx.AsyncClient) -> None:
    answer = await ask(client, q=["狗", "", " \n", "脸"], source="zh", target="en")
    assert answer["translatedText"] == ["[狗]", "", " \n", "[脸]"]
    assert await ask(client, q=" ", source="zh", target="en") == {"translatedText": " "}


async def test_alternatives_are_asked_for(client: httpx.AsyncClient, registry: Any) -> None:
    answer = await ask(client, q=["狗", ""], source="zh", target="en", alternatives=5)
    assert answer["alternatives"] == [[], []]
    item = registry.pipelines[Task.TRANSLATE, "text"].asked[0][0]
    assert (item.alternatives, item.num_beams) == (6, 6)
    answer = await ask(client, q="狗\n脸", source="zh", target="en", alternatives=1)
    assert answer == {"translatedText": "[狗]\n[脸]", "alternatives": []}


def test_no_alternative_repeats_a_translation() -> None:
    texts = ("I like tea.", "I drink tea.", "I like tea.", "I drink tea.", "Tea!")
    hypotheses = tuple(Alternative(text, -1.0, FinishReason.STOP) for text in texts)
    found = Translation("I like tea.", "zh", "en", False, alternatives=hypotheses)
    assert _alternatives(found) == ["I drink tea.", "Tea!"]


@pytest.mark.usefixtures("translators")
async def test_languages_are_named_with_their_targets(client: httpx.AsyncClient) -> None:
    assert (await client.get("/languages")).json() == [
        {"code": "en", "name": "English", "targets": ["en"]},
        {"code": "fr", "name": "French", "targets": ["en", "fr"]},
        {"code": "zh-Hans", "name": "Chinese (Simplified)", "targets": ["en", "zh-Hans"]},
    ]
    settings = (await client.get("/frontend/settings")).json()
    assert settings["language"]["target"] == {"code": "en", "name": "English"}
    assert settings["keyRequired"] is False


async def test_a_language_is_detected(client: httpx.AsyncClient) -> None:
    found = (await client.post("/detect", data={"q": "Je ne sais pas où est la gare"})).json()
    assert found[0]["language"] == "fr"
    assert found[0]["confidence"] > 50
    assert (await client.post("/detect", json={"q": "12"})).json()[0]["confidence"] == 0
    refused = await client.post("/detect", json={})
    assert refused.status_code == 400
    assert refused.json() == {"error": "Invalid request: missing q parameter"}


LONG = {
    "zh": "今天天气很好，我们去公园散步，看看花和树，" * 3,
    "fr": "Je ne sais pas où se trouve la gare, mais je vais demander au premier passant.",
    "en": "The library is closed on Sundays, so we will have to come back next week.",
}


async def test_each_long_text_of_a_list_goes_to_the_model_for_its_language(
    client: httpx.AsyncClient, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [
        VersionStatus(
            name,
            1,
            ModelState.READY,
            Task.TRANSLATE,
            source_languages=(source,),
            target_languages=("en",),
        )
        for name, source in (("of-chinese", "zh"), ("of-french", "fr"))
    ]
    asked: list[str | None] = []

    def find(task: Any, modality: str, model: str | None, *more: Any) -> Any:
        asked.append(model)
        return registry.pipelines[task, modality]

    monkeypatch.setattr(registry, "statuses", lambda: statuses)
    monkeypatch.setattr(registry, "find", find)
    texts = [LONG["fr"], LONG["en"], "Oui.", LONG["zh"]]
    answer = await ask(client, q=texts, source="auto", target="en")
    translated = answer["translatedText"]
    assert [translated[at] for at in (0, 1, 3)] == [f"[{texts[0]}]", texts[1], f"[{texts[3]}]"]
    assert [one["language"] for one in answer["detectedLanguage"]][0::3] == ["fr", "zh"]
    assert answer["detectedLanguage"][1]["language"] == "en"
    assert set(asked) == {"of-chinese", "of-french"}


@pytest.mark.usefixtures("translators")
@pytest.mark.parametrize("source", ["auto", "zh"])
async def test_the_text_that_fails_is_named_by_its_place_in_the_list(
    client: httpx.AsyncClient, source: str
) -> None:
    body = {"q": [" ", LONG["zh"], "a\0b", LONG["en"]], "source": source, "target": "en"}
    response = await client.post("/translate", json=body)
    assert response.status_code == 400
    assert response.json() == {"error": "text 2: the text has a null character"}
