"""Tiny generators with random weights: a BART as bart-large-cnn is configured, and a T5.

Import it after `pytest.importorskip("optimum.exporters.onnx")`: it needs the extra "train".
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import transformers as tf

from service.tasks import GenerateItem
from tests.exports.exporting import seeded
from tests.exports.serving import serving
from tests.exports.translators import (
    CALL,
    SMALL,
    TEXTS,
    Translator,
    let_loops_be,
    livened,
    pieces,
    sentences,
    valid,
)

LARGE_CNN = {
    "early_stopping": True,
    "length_penalty": 2.0,
    "max_length": 28,
    "min_length": 8,
    "no_repeat_ngram_size": 3,
    "num_beams": 4,
    "forced_bos_token_id": 0,
    "forced_eos_token_id": 2,
}
"""As bart-large-cnn has them, with shorter texts."""


def bart(folder: Path) -> Translator:
    folder.mkdir()
    trained = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(sentences(), 700, special_tokens=special, show_progress=False)
    trained.save_model(str(folder))
    tokenizer = tf.BartTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    config = tf.BartConfig(
        **SMALL, vocab_size=len(tokenizer), scale_embedding=True,
        task_specific_params={"summarization": {"length_penalty": 2.0, "num_beams": 4}},
    )  # fmt: skip
    model = livened(seeded(tf.BartForConditionalGeneration, config), 2, -2.5)
    model.generation_config.update(**LARGE_CNN)
    return Translator(model, tokenizer)


def pegasus(folder: Path) -> Translator:
    made = bart(folder)
    config = tf.PegasusConfig(
        **SMALL, vocab_size=len(made.tokenizer), pad_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, forced_eos_token_id=2, scale_embedding=True,
    )  # fmt: skip
    model = livened(seeded(tf.PegasusForConditionalGeneration, config), 2, -4.0)
    model.generation_config.max_length = 20
    made.tokenizer.backend_tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 2)]
    )
    return Translator(model, made.tokenizer)


def t5(folder: Path) -> Translator:
    folder.mkdir()
    (folder / "spiece.model").write_bytes(pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    tokenizer = tf.T5TokenizerFast(str(folder / "spiece.model"), legacy=True)
    prefix = "summarize: "
    settings = {"max_length": 24, "min_length": 5, "num_beams": 4, "no_repeat_ngram_size": 3}
    config = tf.T5Config(
        vocab_size=1024, d_model=32, d_kv=16, num_layers=2, num_decoder_layers=2, num_heads=2,
        d_ff=48, decoder_start_token_id=0, tie_word_embeddings=False,
        task_specific_params={"summarization": {**settings, "prefix": prefix}},
    )  # fmt: skip
    model = livened(seeded(tf.T5ForConditionalGeneration, config), 1, 1.0)
    model.generation_config.update(**settings)  # as the pipeline of transformers does
    return Translator(model, tokenizer, prefix=prefix)


MODELS: dict[str, Callable[[Path], Translator]] = {"BART": bart, "Pegasus": pegasus, "T5": t5}


async def hold_to_transformers(generator: Translator, folder: Path) -> None:
    """Compare a served directory with transformers: tokens in, tokens out, and texts."""
    let_loops_be(folder)
    written = set()
    async with serving(folder) as loaded:
        family: Any = loaded.pipeline.family
        searches: tuple[dict[str, Any], ...] = (
            {},
            {"num_beams": 1, "early_stopping": False},
            {"num_beams": 3, "length_penalty": 0.6, "min_new_tokens": 12},
        )
        for options in searches:
            own = {key: value for key, value in options.items() if key != "early_stopping"}
            items = [GenerateItem(valid(text), **own) for text in TEXTS]
            works = [family.processor.preprocess(item) for item in items]
            for work, text in zip(works, TEXTS, strict=True):
                assert work.tensors["input_ids"].tolist() == generator.asked(text)
            results = loaded.instances.infer(family.model.infer, works, exclusive=False)
            answers = await asyncio.gather(*(loaded.pipeline.answer(item, CALL) for item in items))
            for result, answered, text in zip(results, answers, TEXTS, strict=True):
                wanted = generator.generated(text, **options)
                assert result["ids"].tolist() == wanted
                assert answered.answer.text == generator.shown(wanted)
                written.add(tuple(wanted))
        item = GenerateItem(TEXTS[0], num_beams=4, alternatives=3)
        answered = await loaded.pipeline.answer(item, CALL)
        ranked = generator.ranked(TEXTS[0], 3, num_beams=4)
        assert [one.text for one in answered.answer.alternatives] == [text for text, _ in ranked]
    assert len(written) > len(TEXTS) // 2, "every text gives the same"
    assert len(set(map(len, written))) > 1, "every text is as long as the others"
