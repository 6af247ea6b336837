"""Which addresses may be opened, and what is shown of them."""

from pathlib import Path

import pytest

from service.errors import ForbiddenError, InvalidInputError
from service.live.address import Address, AllowedSources
from tests.sentences import sentence

CAMERAS = AllowedSources(
    ["rtsp://camera.lan/live", "http://10.0.0.7:8080/", "https://a.example/x/"]
)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera.lan/live",
        "rtsp://user:secret@CAMERA.lan:554/live/2?token=abc",
        "http://10.0.0.7:8080/a/b.ts",
        "https://a.example/x/y",
    ],
)
def test_what_lies_below_an_allowed_address_may_be_opened(url: str) -> None:
    assert CAMERAS.checked(url)


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://camera.lan/livelier",
        "rtsp://camera.lan:555/live",
        "http://camera.lan/live",
        "rtsp://camera.lan.evil.example/live",
        "rtsp://camera.lan@evil.example/live",
        "http://10.0.0.7/",
        "http://10.0.0.7:8080@evil.example/",
        "https://a.example/",
        "file:///etc/passwd",
    ],
)
def test_others_may_not(url: str) -> None:
    with pytest.raises(ForbiddenError, match=r"streams\.sources"):
        CAMERAS.checked(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "camera",
        "ftp://camera.lan/live",
        "concat:a|b",
        "rtsp:///live",
        "file://host/a",
        "http://10.0.0.7:port/",
        "http://10.0.0.7:8080/a/../b",
        "http://10.0.0.7:8080/a/%2e%2E/b",
        "http://10.0.0.7:8080/a/..%2fb",
        "http://10.0.0.7:8080\\@evil.example/",
        "http://10.0.0.7:8080/a b",
        "http://10.0.0.7:8080/a\r\nHost: b",
        "http://10.0.0.7:8080/#a",
        "http://[10.0.0.7/",
        "http://10.0.0.7:8080/" + 3000 * "a",
    ],
)
def test_what_is_no_clear_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        CAMERAS.checked(url)


def test_neither_password_nor_query_is_shown() -> None:
    address = Address.parse("rtsp://user:secret@camera.lan:8554/live?token=hidden")
    assert (address.user, address.password, address.query) == ("user", "secret", "token=hidden")
    assert str(address) == "rtsp://camera.lan:8554/live"
    for shown in (str(address), repr(address)):
        assert not any(word in shown for word in ("user", "secret", "hidden"))
    with pytest.raises(ForbiddenError) as refused:
        CAMERAS.checked("rtsp://user:secret@other.lan/live?token=hidden")
    assert "secret" not in str(refused.value)


def test_a_file_is_where_its_links_lead(tmp_path: Path) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "clip.mp4").touch()
    (tmp_path / "allowed/out.mp4").symlink_to(tmp_path / "clip.mp4")
    (tmp_path / "allowed/in.mp4").touch()
    sources = AllowedSources([f"file://{tmp_path}/allowed"])
    assert sources.checked(f"file://{tmp_path}/allowed/in.mp4").file.name == "in.mp4"
    with pytest.raises(ForbiddenError):
        sources.checked(f"file://{tmp_path}/allowed/out.mp4")


def test_nothing_is_allowed_by_default() -> None:
    with pytest.raises(ForbiddenError, check=sentence):
        AllowedSources().checked("rtsp://camera.lan/live")


@pytest.mark.parametrize("url", ["camera", "rtsp://user:secret@camera.lan/", "http://a/?b=c"])
def test_a_wrong_setting_is_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"streams\.sources\[1\]") as refused:
        AllowedSources(["rtsp://camera.lan/", url])
    assert "secret" not in str(refused.value)
