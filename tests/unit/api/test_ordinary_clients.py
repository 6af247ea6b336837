"""What ordinary clients and proxies send is read as other servers read it."""

import base64
import json
import re
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from service.api.forms import image_bytes
from service.page.page import page_files
from service.tasks import ClassifyItem, EmbedItem, Image, Task
from tests.sentences import sentence
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.images import JPEG, PNG

BASE64 = base64.b64encode(PNG).decode()
WRAPPED = base64.encodebytes(PNG).decode()
PATHS = [
    "/",
    "/docs",
    "/openapi.json",
    "/health/live",
    "/health/ready",
    "/metrics",
    "/v1/models",
    "/v1/models/zh-en",
    "/v1/models/zh-en/parity",
    "/docs/assets/swagger-ui.css",
    *(f"/page/{name}" for name in page_files()),
]


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_answered_as_get(client: httpx.AsyncClient, path: str) -> None:
    shown, head = await client.get(path), await client.head(path)
    assert (shown.status_code, head.status_code) == (200, 200)
    assert head.content == b""
    assert head.headers["content-type"] == shown.headers["content-type"]


async def test_head_of_what_is_absent_or_not_shown_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.head("/v1/models/absent")).status_code == 404
    refused = await client.head("/v1/classify")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    refused = await client.put("/v1/models")
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_the_documentation_works_behind_a_prefix(client: httpx.AsyncClient) -> None:
    """A proxy strips `/quartet`: every link of the page has to lead below it."""
    base = "http://proxy/quartet/docs"
    page = (await client.get("/docs")).text
    links = re.findall(r"""(?:src|href|url)(?:=|: ?)["']([^"']*)""", page)
    assert len(links) == 4
    for link in links:
        url = urljoin(base, link)
        assert url.startswith("http://proxy/quartet/")
        assert (await client.get(url.removeprefix("http://proxy/quartet"))).status_code == 200
    [document] = [link for link in links if "openapi" in link]
    [server] = (await client.get(f"/{document}")).json()["servers"]
    assert urljoin(urljoin(base, document), server["url"]) == "http://proxy/quartet/"


async def classify(client: httpx.AsyncClient, body: bytes, **headers: str) -> httpx.Response:
    headers = {"content-type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return await client.post("/v1/classify", content=body, headers=headers)


@pytest.mark.parametrize("coding", ["identity", "Identity", "IDENTITY", " identity ", ""])
async def test_a_body_may_say_that_it_is_not_compressed(
    client: httpx.AsyncClient, coding: str
) -> None:
    response = await classify(client, b'{"text": "a"}', content_encoding=coding)
    assert response.status_code == 200


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "gzip, zstd"])
async def test_a_body_in_another_coding_is_refused(client: httpx.AsyncClient, coding: str) -> None:
    response = await classify(client, b'{"text": "a"}', content_encoding=coding)
    assert response.status_code == 415


@pytest.mark.parametrize(
    "content_type",
    [
        "APPLICATION/JSON",
        "application/json;charset=UTF-8",
        "application/json; charset='utf-8'",
        'application/json; version=1; Charset="Utf-8"',
        "application/vnd.quartet+json",
    ],
)
async def test_json_has_many_names(client: httpx.AsyncClient, content_type: str) -> None:
    response = await classify(client, b'{"text": "a"}', content_type=content_type)
    assert response.status_code == 200


async def test_a_byte_order_mark_before_json_is_ignored(client: httpx.AsyncClient) -> None:
    body = b"\xef\xbb\xbf" + json.dumps({"text": "a", "top_k": 1}).encode()
    assert (await classify(client, body)).status_code == 200
    assert (await classify(client, b"\xef\xbb\xbf" + body)).status_code == 400


def form(*parts: tuple[str, bytes], before: bytes = b"", after: bytes = b"") -> dict[str, Any]:
    body = b"".join(b"--B\r\n%s\r\n\r\n%s\r\n" % (head.encode(), data) for head, data in parts)
    return {
        "content": before + body + b"--B--" + after,
        "headers": {"content-type": 'Multipart/Form-Data; boundary="B"'},
    }


def disposition(name: str, *more: str) -> str:
    rest, *headers = more or ("",)
    return "\r\n".join([f'Content-Disposition: form-data; name="{name}"{rest}', *headers])


FILE = disposition("image", '; filename="x.png"')


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(form((FILE, PNG)), id="file"),
        pytest.param(
            form((disposition("image", "; filename*=utf-8''%E5%9B%BE.png"), PNG)), id="filename*"
        ),
        pytest.param(
            form((disposition("image", "; filename*=utf-8''a.png; filename=a.png"), PNG)),
            id="filename* and filename",
        ),
        pytest.param(
            form((disposition("image", "", "Content-Type: image/png"), PNG)), id="no file name"
        ),
        pytest.param(
            form((disposition("image", "", "content-type: IMAGE/PNG; name=a"), PNG)),
            id="upper case",
        ),
        pytest.param(form((disposition("image"), PNG)), id="no name, no type"),
        pytest.param(form((disposition("image"), BASE64.encode())), id="base64"),
        pytest.param(form((disposition("image"), WRAPPED.encode())), id="base64 in lines"),
        pytest.param(
            form((disposition("image"), f"data:image/png;base64,{BASE64}".encode())), id="data URI"
        ),
        pytest.param(
            form(
                (
                    disposition("image", '; filename="x"', "Content-Transfer-Encoding: BASE64"),
                    BASE64.encode(),
                )
            ),
            id="transfer encoding",
        ),
        pytest.param(form((disposition("image[]"), PNG)), id="brackets"),
        pytest.param(form((disposition("image[0]"), PNG)), id="numbered brackets"),
        pytest.param(form((FILE, PNG), before=b"This is a multipart message\r\n"), id="preamble"),
        pytest.param(form((FILE, PNG), before=b"\r\n"), id="empty preamble"),
        pytest.param(form((FILE, PNG), before=b"not --B\r\n"), id="preamble with a boundary"),
        pytest.param(form((FILE, PNG), after=b"\r\n"), id="line end"),
        pytest.param(form((FILE, PNG), after=b"\r\nthe end\r\n"), id="epilogue"),
    ],
)
async def test_an_image_of_a_form_is_read(
    client: httpx.AsyncClient, registry: FakeRegistry, request_: dict[str, Any]
) -> None:
    response = await client.post("/v1/embed", **request_)
    assert response.status_code == 200, response.text
    asked = registry.pipelines[Task.EMBED, "image"].asked
    assert [item for item, _ in asked] == [EmbedItem(Image(PNG))]


async def test_texts_of_a_form_may_be_files_and_lists(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    parts = [
        (disposition("text[]"), b"a"),
        (disposition("text", '; filename="b.txt"', "Content-Type: text/plain"), "é".encode()),
    ]
    response = await client.post("/v1/classify", **form(*parts))
    assert response.status_code == 200, response.text
    asked = [item for item, _ in registry.pipelines[Task.CLASSIFY, "text"].asked]
    assert [item.content.text for item in asked if isinstance(item, ClassifyItem)] == ["a", "é"]


URL_SAFE = base64.urlsafe_b64encode(bytes(range(256))).decode()


@pytest.mark.parametrize(
    ("text", "data"),
    [
        pytest.param(WRAPPED, PNG, id="lines"),
        pytest.param(WRAPPED.replace("\n", "\r\n"), PNG, id="lines of CR LF"),
        pytest.param(f" {BASE64}\n", PNG, id="spaces around"),
        pytest.param(BASE64.rstrip("="), PNG, id="without padding"),
        pytest.param(URL_SAFE, bytes(range(256)), id="alphabet for URLs"),
        pytest.param(URL_SAFE.rstrip("="), bytes(range(256)), id="for URLs, without padding"),
        pytest.param(f"data:image/png;base64,{WRAPPED}", PNG, id="data URI in lines"),
        pytest.param(f"DATA:IMAGE/PNG;CHARSET=x;BASE64,{BASE64}", PNG, id="upper case"),
        pytest.param(f"data:image/png; name=a.png; base64, {BASE64}", PNG, id="parameters"),
        pytest.param(f"data:application/octet-stream;base64,{BASE64}", PNG, id="unknown type"),
        pytest.param(
            "data:image/jpeg;base64,"
            + base64.b64encode(JPEG).decode().replace("/", "%2F").replace("=", "%3D"),
            JPEG,
            id="percent-encoded",
        ),
    ],
)
def test_base64_is_read_as_browsers_read_it(text: str, data: bytes) -> None:
    assert image_bytes(text) == data


@pytest.mark.parametrize(
    "url", ["https://example.org/a.png", "HTTP://example.org/a", "file:///a.png", "s3://b/a.png"]
)
async def test_an_address_of_an_image_is_refused_plainly(
    client: httpx.AsyncClient, url: str
) -> None:
    response = await client.post("/v1/detect", json={"image": url})
    assert response.status_code == 422
    [fault] = response.json()["errors"]
    assert sentence(fault["detail"])
    assert "base64" in fault["detail"]
