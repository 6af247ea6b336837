"""`python -m service keys new`, and a service that starts with its lines."""

import re
from pathlib import Path

import pytest

from service.__main__ import main
from service.access.access import Access
from service.app import open_access
from service.settings import AccessSettings, Settings, SettingsError

pytestmark = pytest.mark.looptime(False)


def test_the_printed_lines_make_the_printed_key_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "keys.toml"
    option = f"--access.keys-file={file}"
    for name in ("search", "shop"):
        assert main(["keys", "new", name, option]) == 0
        printed = capsys.readouterr().out
        (key,) = re.findall(r"^quartet_\S+$", printed, re.MULTILINE)
        lines = printed[printed.index(f"[keys.{name}]") :]
        file.write_text((file.read_text() if file.exists() else "") + lines)
        assert Access(file).caller(key).name == name
    assert main(["keys", "new", "shop", option]) == 2
    assert "already" in capsys.readouterr().err


def test_a_name_that_cannot_be_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "a b"]) == 2
    assert "a b" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "", "[keys.a]"])
def test_a_service_does_not_start_with_a_broken_file(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "keys.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=r"access\.keys_file"):
        open_access(Settings(access=AccessSettings(keys_file=file)))


def test_without_a_file_there_is_no_access() -> None:
    assert open_access(Settings()) is None
