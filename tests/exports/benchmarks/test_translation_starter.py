"""The starter translator in CTranslate2: the very network that the service answers with."""

from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("ctranslate2", reason="needs the extra bench-translation")
pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("onnx", reason="needs the extra train")

import ctranslate2

from benchmarks.texts import sentences_zh
from benchmarks.translation.ctranslate2_texts import MOST_TOKENS, Texts
from benchmarks.translation.starter import make_ctranslate2
from benchmarks.translation.worker import open_quartet

STARTER = Path(__file__).parents[3] / "models" / "repository" / "zh-en" / "1"
ASKED = sentences_zh()[:12]


def answers_of_ctranslate2(folder: Path, beams: int) -> Sequence[str]:
    texts = Texts(folder)
    translator = ctranslate2.Translator(str(folder), compute_type="float32", intra_threads=1)
    found = translator.translate_batch(
        [texts.tokens(text) for text in ASKED], beam_size=beams, max_decoding_length=MOST_TOKENS
    )
    return [texts.text(one.hypotheses[0]) for one in found]


@pytest.mark.looptime(False)
def test_ctranslate2_answers_as_the_service_does_where_both_compute_in_fp32(
    tmp_path: Path,
) -> None:
    make_ctranslate2(STARTER, tmp_path, None)
    translate = open_quartet(STARTER, 1)
    expected = [answer for text in ASKED for answer in translate([text], 1)]
    assert answers_of_ctranslate2(tmp_path, 1) == expected
