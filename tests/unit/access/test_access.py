"""Known keys, and a file that changes while it is used."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from service.access.access import ADMINISTRATOR, Access
from service.access.keys_file import KeysFileError, digest_of
from service.errors import (
    ForbiddenError,
    LimitExceededError,
    QuotaExceededError,
    RateLimitedError,
    ServiceError,
    UnauthorizedError,
)
from service.tasks import ClassifyItem, DetectItem, EmbedItem, Image, Task, Text, TranslateItem
from tests.unit.api.images import encoded

Write = Callable[..., Path]


def entry(name: str, key: str, *lines: str) -> str:
    return "\n".join((f"[keys.{name}]", f'sha256 = "{digest_of(key.encode()).hex()}"', *lines, ""))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    path = tmp_path / "keys.toml"

    def write(*entries: str) -> Path:
        path.write_text("\n".join(entries))
        return path

    return write


def broken() -> float | None:
    return REGISTRY.get_sample_value("access_keys_file_broken")


def test_a_key_finds_its_owner_and_nothing_else_does(write: Write) -> None:
    access = Access(write(entry("a", "secret-a"), entry("b", "secret-b")), admin_token="root")
    assert access.caller("secret-a").name == "a"
    assert access.caller(b"secret-b").name == "b"
    administrator = access.caller("root")
    assert administrator.name == ADMINISTRATOR
    administrator.require_administrator()
    for wrong in (
        None,
        "",
        b"",
        "secret-",
        "secret-a ",
        "SECRET-A",
        "\ud800",
        b"\xff\0",
        "a" * 10**6,
    ):
        with pytest.raises(UnauthorizedError):
            access.caller(wrong)
    digest = digest_of(b"secret-a")
    for hashed in (digest, digest.hex()):  # who can read the file has no key
        with pytest.raises(UnauthorizedError):
            access.caller(hashed)


def test_a_broken_file_refuses_the_start(write: Write, tmp_path: Path) -> None:
    for path in (write("[keys"), tmp_path / "absent"):
        with pytest.raises(KeysFileError):
            Access(path)


async def settle(access: Access) -> None:
    await access.look()
    await access.look()


async def test_a_changed_file_is_read_and_a_broken_one_keeps_the_old_keys(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    access = Access(path := write(entry("a", "one")))
    write(entry("a", "one"), entry("b", "two"))
    await settle(access)
    assert access.caller("two").name == "b"
    write("[keys.b]\nsha256 = 3")
    await settle(access)
    assert access.caller("one").name == "a"
    assert access.caller("two").name == "b"
    assert broken() == 1
    assert "keys.b" in caplog.text
    path.unlink()
    await settle(access)
    assert access.caller("two").name == "b"
    write(entry("b", "three"))
    await settle(access)
    assert broken() == 0
    assert access.caller("three").name == "b"
    for old in ("one", "two"):
        with pytest.raises(UnauthorizedError):
            access.caller(old)


async def test_a_file_that_is_still_being_written_is_not_read(write: Write) -> None:
    access = Access(write(entry("a", "one"), entry("b", "two")))
    write(entry("a", "one"))  # its first part
    await access.look()
    write(entry("a", "one"), entry("b", "two"), entry("c", "three"))
    await access.look()
    assert access.caller("two").name == "b"
    await access.look()
    assert access.caller("three").name == "c"


async def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """As Kubernetes updates a mounted Secret."""
    link = tmp_path / "keys.toml"
    for name in ("one", "two"):
        (tmp_path / name).write_text(entry(name, name))
    link.symlink_to("one")
    access = Access(link)
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(link)
    await settle(access)
    assert access.caller("two").name == "two"


async def test_the_watch_reads_what_changes(write: Write) -> None:
    access = Access(write(entry("a", "one")))
    watch = asyncio.create_task(access.watch(0.5))
    write(entry("a", "two"))
    await asyncio.sleep(2)
    assert access.caller("two").name == "a"
    watch.cancel()


async def test_what_a_name_has_used_outlives_a_reload(write: Write) -> None:
    limit = "items_per_day = 2"
    access = Access(write(entry("a", "one", limit)))
    await access.caller("one").spend(Task.CLASSIFY, ["m"], [ClassifyItem(Text("x"))] * 2)
    write(entry("a", "two", limit))
    await settle(access)
    with pytest.raises(QuotaExceededError):
        await access.caller("two").spend(Task.CLASSIFY, ["m"], [ClassifyItem(Text("x"))])


async def test_models_and_tasks_of_a_key(write: Write) -> None:
    caller = Access(write(entry("a", "one", 'models = ["m"]', 'tasks = ["embed"]'))).caller("one")
    await caller.spend(Task.EMBED, ["m"], [])
    for task, models in ((Task.CLASSIFY, ["m"]), (Task.EMBED, ["other"]), (Task.EMBED, ["m", "o"])):
        with pytest.raises(ForbiddenError):
            await caller.spend(task, models, [])
    with pytest.raises(ForbiddenError):
        caller.require_administrator()


PIXELS = Image(encoded(size=(100, 50)))


@pytest.mark.parametrize(
    ("limit", "items", "fits"),
    [
        ("items_per_minute = 4", [ClassifyItem(Text("xyz"))], 4),
        ("characters_per_minute = 10", [ClassifyItem(Text("xyz"))], 3),
        ("characters_per_minute = 10", [ClassifyItem(Text("xyz"), None, "ab")], 2),
        ("characters_per_minute = 10", [TranslateItem("今天天气")], 2),
        ("characters_per_minute = 10", [EmbedItem(Text("xyz")), EmbedItem(PIXELS)], 3),
        ("megapixels_per_minute = 0.01", [DetectItem(PIXELS)], 2),
        ("megapixels_per_minute = 0.01", [ClassifyItem(PIXELS), EmbedItem(Text("x"))], 2),
    ],
)
async def test_what_items_use(write: Write, limit: str, items: list[object], fits: int) -> None:
    caller = Access(write(entry("a", "one", limit))).caller("one")
    for _ in range(fits):
        await caller.spend(Task.EMBED, ["m"], items)
    with pytest.raises(RateLimitedError) as caught:
        await caller.spend(Task.EMBED, ["m"], items)
    assert 0 < (caught.value.retry_after or 0) <= 60


async def test_items_that_were_not_parsed_use_nothing(write: Write) -> None:
    caller = Access(write(entry("a", "one", "items_per_minute = 2"))).caller("one")
    for _ in range(5):
        await caller.spend(Task.EMBED, ["m"], [ServiceError("broken")])
    await caller.spend(Task.EMBED, ["m"], [ServiceError("broken"), *[EmbedItem(Text("x"))] * 2])


async def test_a_request_that_no_wait_makes_fit_is_told_so(write: Write) -> None:
    caller = Access(write(entry("a", "one", "items_per_minute = 2"))).caller("one")
    with pytest.raises(LimitExceededError):
        await caller.spend(Task.EMBED, ["m"], [EmbedItem(Text("x"))] * 3)
    assert caller.standings()[0].room == 2


async def test_the_fields_of_a_response(write: Write) -> None:
    access = Access(
        write(
            entry("a", "one", "requests_per_second = 2", "burst = 4", "items_per_day = 9"),
            entry("b", "two"),
        )
    )
    caller = access.caller("one")
    await caller.begin()
    assert dict(caller.fields()) == {
        b"ratelimit-policy": b'"requests-second";q=4;w=2, "items-day";q=9;w=86400;qu="items"',
        b"ratelimit": b'"requests-second";r=3;t=1, "items-day";r=9;t=0',
    }
    assert access.caller("two").fields() == ()


async def test_what_is_counted_by_name(write: Write) -> None:
    access = Access(write(entry("counted", "one", "requests_per_second = 1", "burst = 1")))
    caller = access.caller("one")
    await caller.begin()
    await caller.spend(Task.EMBED, ["m"], [EmbedItem(Text("four"))])
    with pytest.raises(RateLimitedError):
        await caller.begin()
    value = REGISTRY.get_sample_value
    assert value("access_requests_total", {"key": "counted"}) == 2
    assert value("access_usage_total", {"key": "counted", "unit": "characters"}) == 4
    assert value("access_refusals_total", {"key": "counted", "code": "rate_limited"}) == 1
