"""Images as text take memory in proportion to their size; other values get a helpful error."""

import base64
import tracemalloc
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.api.forms import image_bytes
from service.errors import InvalidInputError, ServiceError
from tests.sentences import sentence

_SIZE = 1 << 20


def peak(text: str) -> int:
    """Return the most bytes that reading an image from a text takes at once."""
    tracemalloc.start()
    try:
        image_bytes(text)
    except ServiceError:
        pass
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most


@pytest.mark.parametrize(
    ("text", "times"),
    [
        pytest.param("AA\n" * (_SIZE // 3), 5, id="short lines"),
        pytest.param("data:image/png;base64," + "A%0A" * (_SIZE // 4), 12, id="escape sequences"),
        pytest.param("data:image/png" + ";a" * (_SIZE // 2), 3, id="parameters"),
    ],
)
def test_an_image_as_text_takes_a_few_times_its_size(text: str, times: int) -> None:
    assert peak(text) < times * len(text)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        ("%2b%2F8%3D", "+/8="),
        ("+/%0a8=%20", "+/8="),
        ("%41%42%43%44", "ABCD"),
    ],
)
def test_escape_sequences_of_a_data_uri_are_read(data: str, read: str) -> None:
    assert image_bytes(f"data:image/png;base64,{data}") == base64.b64decode(read)


@pytest.mark.parametrize("data", ["%4", "%", "%zz", "%%41", "AB%4", "AB%C3%A9", "AB%FF"])
def test_broken_escape_sequences_are_not_base64(data: str) -> None:
    with pytest.raises(InvalidInputError, check=sentence):
        image_bytes(f"data:image/png;base64,{data}")


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (
            "/v1/classify",
            {"text": 3},
            "text: must be a string, or an object of text and text_pair, or a list of these",
        ),
        ("/v1/classify", {"image": True}, "image: must be a string, or a list of these"),
        ("/v1/translate", {"text": 3}, "text: must be a string, or a list of these"),
    ],
)
async def test_what_is_no_item_is_told_what_one_is(
    client: httpx.AsyncClient, path: str, body: dict[str, Any], detail: str
) -> None:
    response = await client.post(path, json=body)
    assert (response.status_code, response.json()["detail"]) == (422, detail)


def read(text: str) -> bytes | str:
    try:
        return image_bytes(text)
    except ServiceError as error:
        return error.code


@given(st.text('AQgw+/-_="\\u0 é', max_size=12))
@example("AA==")
@example("AB==")
@example('A"A=')
@example("\\u0041AAA")
def test_the_quick_way_reads_what_the_patient_one_reads(text: str) -> None:
    assert read(text) == read(f"{text}\n")  # which only the patient one takes
