import pytest

from service.api.errors import MalformedRequestError
from service.api.forms import parse_form, parse_query
from service.errors import LimitExceededError

TYPE = b"multipart/form-data; boundary=edge"


def part(name: str, content: bytes, *, filename: str | None = None, extra: str = "") -> bytes:
    file = f'; filename="{filename}"' if filename is not None else ""
    head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{file}\r\n{extra}\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge--\r\n"


def parse(body: bytes, content_type: bytes = TYPE) -> dict[str, object]:
    return parse_form(body, content_type, 4, {"image", "text"})


def test_files_are_bytes_fields_are_text_and_both_keep_their_order() -> None:
    body = form(
        part("image", b"\x89PNG\r\n--edg", filename="a.png"),
        part("top_k", b"3"),
        part("image", b"\x00\xff", filename="b.png"),
    )
    assert parse(body) == {"image": [b"\x89PNG\r\n--edg", b"\x00\xff"], "top_k": "3"}


def test_a_file_of_megabytes_comes_through_whole() -> None:
    data = bytes(range(256)) * 12_000
    assert parse(form(part("image", data, filename="a")))["image"] == [data]


def test_a_form_without_fields_is_empty() -> None:
    assert parse(b"--edge--\r\n") == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(form(part("top_k", b"3")), b"multipart/form-data", id="no boundary named"),
        pytest.param(form(part("top_k", b"3")), TYPE + b"x", id="another boundary named"),
        pytest.param(part("top_k", b"3"), TYPE, id="no end"),
        pytest.param(b"", TYPE, id="empty"),
        pytest.param(b"garbage", TYPE, id="garbage"),
        pytest.param(form(b"--edge\r\n\r\nx\r\n"), TYPE, id="part without a name"),
        pytest.param(form(part("top_k", b"\xff")), TYPE, id="field not UTF-8"),
        pytest.param(form(part("top_k", b"3"), part("top_k", b"4")), TYPE, id="field twice"),
        pytest.param(
            form(part("image", b"x", filename="a", extra="Content-Transfer-Encoding: odd\r\n")),
            TYPE,
            id="unknown transfer encoding",
        ),
        pytest.param(
            form(part("image", b"!", filename="a", extra="Content-Transfer-Encoding: base64\r\n")),
            TYPE,
            id="base64 that is none",
        ),
    ],
)
def test_a_form_that_cannot_be_read_is_malformed(body: bytes, content_type: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        parse(body, content_type)


def test_a_broken_form_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MalformedRequestError):
        parse(b"garbage")
    assert not caplog.records


def test_more_parts_than_allowed_are_refused() -> None:
    with pytest.raises(LimitExceededError):
        parse(form(*[part("image", b"x", filename="a")] * 5))


def test_a_query_becomes_values() -> None:
    assert parse_query(b"top_k=3&model=a%20b&version=", 8) == {
        "top_k": "3",
        "model": "a b",
        "version": "",
    }


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(b"top_k=1&top_k=2", id="twice"),
        pytest.param(b"model=%ff", id="not UTF-8 when decoded"),
        pytest.param(b"model=\xff", id="not ASCII"),
        pytest.param(b"&".join(b"a%d=1" % i for i in range(20)), id="too many"),
    ],
)
def test_a_query_that_cannot_be_read_is_malformed(query: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        parse_query(query, 8)
