"""What refusals say, held in one file: a test names the error, and `sentences.json` its sentence.

    with pytest.raises(ModelLoadError, check=sentence):

`SENTENCES=write .venv/bin/python -m pytest -n 0 TESTS` records a new test, or a sentence that was
changed on purpose; the difference in the file is then reviewed.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

_FILE = Path(__file__).with_name("sentences.json")
_FOLDER = re.compile(r"[^\s'\":,;]*(?:pytest-\d+|popen-gw\d+)/[^\s'\":,;/]*|\btest_[a-z_]{25}\d+\b")
_PORT = re.compile(r"(?<=127\.0\.0\.1:)\d+")
# What follows is a library's, and differs between its versions.
_LIBRARY = re.compile(
    r"(not valid TOML|Invalid JSON|the video cannot be read|model.toml cannot be read|"
    r"tokenizer that can be read|cannot be loaded|is not JSON): .*",
    re.DOTALL,
)
# What follows is a list that grows with every kind of task.
_LIST = re.compile(
    r"(known are|\[key\]: Input should be|says nothing of|none of the) .*", re.DOTALL
)
_MEASURED = re.compile(
    r"(?<=off by )[\d.]+|(?<=reads scores from )\S+ to \S+|(?<=transformers )[\d.]+"
)
_seen: Counter[str] = Counter()
_recorded: dict[str, list[str]] = {}


def sentence(said: BaseException | str) -> bool:
    """Compare what an error says with what this test recorded, in the order of its calls.

    Raises:
        AssertionError: it says something else, or nothing was recorded.
    """
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0]
    number = _seen[test]
    _seen[test] += 1
    text = _LIBRARY.sub(r"\1: ...", _PORT.sub("PORT", _FOLDER.sub("FOLDER", str(said))))
    text = _MEASURED.sub("NUMBER", _LIST.sub(r"\1 ...", text))
    if os.environ.get("SENTENCES") == "write":
        _write(test, number, text)
        return True
    if not _recorded:
        _recorded.update(json.loads(_FILE.read_text(encoding="utf-8")))
    expected = _recorded.get(test, [])
    assert number < len(expected), f"not recorded, see {__name__}: {text!r}"
    assert text == expected[number]
    return True


def _write(test: str, number: int, text: str) -> None:
    recorded = json.loads(_FILE.read_text(encoding="utf-8")) if _FILE.exists() else {}
    said = recorded.setdefault(test, [])[:number]
    recorded[test] = [*said, text]
    lines = json.dumps(recorded, ensure_ascii=False, indent=1, sort_keys=True)
    _FILE.write_text(f"{lines}\n", encoding="utf-8")
