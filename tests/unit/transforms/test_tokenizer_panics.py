"""Tokenizers at which the library panics, at load or on some texts: that is no Exception."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from service.errors import InvalidInputError, ModelLoadError
from service.transforms.language.text import TextTokenizer
from tests.sentences import sentence

_PARTS = {
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
}
_MISSING = {"SpecialToken": {"id": "[SEP]", "type_id": 0}}


def template(**parts: Any) -> dict[str, Any]:
    return {"type": "TemplateProcessing", **_PARTS, "special_tokens": {}, **parts}


def charsmap(data: bytes) -> dict[str, str]:
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


def file_of(**parts: Any) -> str:
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1, "b": 2}, "unk_token": "[UNK]"}
    whole = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}}
    return json.dumps({**whole, "model": model, **parts})


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"normalizer": charsmap(b"")}, id="no table"),
        pytest.param({"normalizer": charsmap(struct.pack("<I", 4) + b"\xff" * 9)}, id="table"),
        pytest.param({"post_processor": template(single=[_MISSING])}, id="special token"),
        pytest.param({"pre_tokenizer": {"type": "FixedLength", "length": 0}}, id="pieces"),
    ],
)
def test_a_file_at_which_the_library_panics_is_refused(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(file_of(**parts))
    with pytest.raises(ModelLoadError, check=sentence):
        TextTokenizer.open(path)


def test_a_text_at_which_the_library_panics_is_refused_alone() -> None:
    pair = [*_PARTS["pair"], _MISSING]
    tokenizer = TextTokenizer(Tokenizer.from_str(file_of(post_processor=template(pair=pair))))
    with pytest.raises(InvalidInputError, check=sentence):
        tokenizer.encode_pair("a", "b", 16)
    assert tokenizer.encode("a b", 16)[0].tolist() == [1, 2]
