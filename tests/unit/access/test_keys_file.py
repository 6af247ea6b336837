"""Valid keys files, and the errors for others."""

from hashlib import sha256
from pathlib import Path

import pytest

from service.access.key import DAY, MINUTE, Limit, rate
from service.access.keys_file import KeysFileError, digest_of, new_key, parse_keys, read_keys
from service.tasks import ComposedTask, Task
from tests.sentences import sentence

A, B = "a" * 64, "b" * 64


def test_every_field_is_read() -> None:
    (key,) = parse_keys(
        f"""
        [keys.search]
        sha256 = ["{A}", "{B}"]
        models = ["emoji", "news-topics"]
        tasks = ["embed", "classify", "rerank"]
        admin = true
        weight = 2
        requests_per_second = 20
        burst = 40
        items_per_minute = 100
        items_per_day = 1000
        characters_per_minute = 5000
        characters_per_day = 50000
        megapixels_per_minute = 0.5
        megapixels_per_day = 20
        """
    )
    assert key.name == "search"
    assert [digest.hex() for digest in key.digests] == [A, B]
    assert key.models == {"emoji", "news-topics"}
    assert key.tasks == {Task.EMBED, Task.CLASSIFY, ComposedTask.RERANK}
    assert key.is_admin
    assert (key.share.name, key.share.weight) == ("search", 2)
    assert key.limits == (
        rate(20, 40),
        Limit("items", 100, MINUTE),
        Limit("items", 1000, DAY),
        Limit("characters", 5000, MINUTE),
        Limit("characters", 50_000, DAY),
        Limit("pixels", 500_000, MINUTE),
        Limit("pixels", 20_000_000, DAY),
    )


def test_an_entry_with_a_hash_alone_may_do_everything_but_administrate() -> None:
    (key,) = parse_keys(f'[keys.a]\nsha256 = "{A}"')
    assert (key.models, key.tasks, key.is_admin, key.weight, key.limits) == (
        None,
        None,
        False,
        1.0,
        (),
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[keys]",
        "keys = 3",
        "[keys",
        "a = " + "[" * 5000,
        f'[key.a]\nsha256 = "{A}"',
        "[keys]\na = 3",
        "[keys.a]",
        '[keys.a]\nsha256 = "abc"',
        f'[keys.a]\nsha256 = "{A.upper()}"',
        "[keys.a]\nsha256 = []",
        f'[keys.a]\nsha256 = "{A}"\nitem_per_day = 3',
        f'[keys.a]\nsha256 = "{A}"\ntasks = ["translat"]',
        f'[keys.a]\nsha256 = "{A}"\nweight = 0',
        f'[keys.a]\nsha256 = "{A}"\nweight = nan',
        f'[keys.a]\nsha256 = "{A}"\nadmin = "yes"',
        f'[keys.a]\nsha256 = "{A}"\nitems_per_day = 0',
        f'[keys.a]\nsha256 = "{A}"\nburst = 3',
        f'[keys.a]\nsha256 = "{A}"\n[keys.b]\nsha256 = "{A}"',
        f'[keys."a b"]\nsha256 = "{A}"',
        f'[keys._admin_]\nsha256 = "{A}"',
    ],
)
def test_a_wrong_file_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(KeysFileError) as caught:
        parse_keys(text)
    assert sentence(str(caught.value))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "absent", tmp_path, tmp_path / "binary"):
        with pytest.raises(KeysFileError) as caught:
            read_keys(path)
        assert str(path) in str(caught.value)


def test_a_new_key_fits_the_lines_to_add() -> None:
    key, lines = new_key("search")
    (parsed,) = parse_keys(lines)
    assert parsed.digests == (sha256(key.encode()).digest(),) == (digest_of(key.encode()),)
    assert key not in lines
    assert len(key) >= 40
    assert new_key("search")[0] != key


@pytest.mark.parametrize("name", ["", "-a", "a b", "a.b", "ä", "a" * 65, "_admin_", "a\n"])
def test_a_name_that_cannot_be_a_label_is_refused(name: str) -> None:
    with pytest.raises(KeysFileError):
        new_key(name)
