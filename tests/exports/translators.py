"""Tiny translators with random weights, and tokenizers trained on the project's own sentences.

Import it after `pytest.importorskip("optimum.exporters.onnx")`: it needs the extra "train".
"""

import asyncio
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import transformers as tf

from service.cache.responses import CacheMode
from service.requests.request import Request
from service.tasks import TranslateItem
from service.transforms.language.languages import M2M100
from service.transforms.language.literals import reduced
from tests.exports.exporting import seeded
from tests.exports.serving import serving

CALL = Request(cache=CacheMode.BYPASS)

_DATA = Path(__file__).parents[2] / "benchmarks" / "data"

TEXTS = [
    "Apple antitrust compliance off to a promising start: monitor",
    "很抱歉那个问题我不赞成你。",
    "Hi",
    "emoji 😀👍🏽 and   spaces\tand\nlines",
    "Tom 最喜欢我。 </s> <unk> she's here , isn't it ?",
    "a\u0301 ﬁ ½ \u200b\ufeff\u00ad ＡＢＣ １２ \ud83d broken \udc00",
    "Running five minutes a day could prolong your life " * 3,
]
"""English, Chinese, emoji, special tokens, broken Unicode; of different lengths."""


def valid(text: str) -> str:
    """What a text with lone surrogates counts as; transformers refuses it."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass
class Translator:
    """A model and its tokenizer, and how both are asked."""

    model: Any
    tokenizer: Any
    languages: dict[str, str] = field(default_factory=dict)
    """`source` and `target` of an item."""
    forced: int | None = None
    prefix: str = ""

    def asked(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(self.prefix + valid(text)).input_ids
        return ids

    def generated(self, text: str, **options: Any) -> list[int]:
        """The tokens that `generate` writes, without start and end."""
        if self.forced is not None:
            options["forced_bos_token_id"] = self.forced
        with torch.no_grad():
            row = self.model.generate(torch.tensor([self.asked(text)]), **options)[0].tolist()
        ends = self.model.generation_config.eos_token_id
        stop = row.index(ends, 1) if ends in row[1:] else len(row)
        return row[1:stop]

    def ranked(self, text: str, count: int, **options: Any) -> list[tuple[str, float]]:
        """The texts of the best hypotheses of `generate`, and their scores."""
        if self.forced is not None:
            options["forced_bos_token_id"] = self.forced
        with torch.no_grad():
            said = self.model.generate(
                torch.tensor([self.asked(text)]),
                num_return_sequences=count,
                return_dict_in_generate=True,
                output_scores=True,
                **options,
            )
        texts = [self.shown(row) for row in said.sequences[:, 1:].tolist()]
        return list(zip(texts, said.sequences_scores.tolist(), strict=True))

    def shown(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text


@cache
def sentences() -> list[str]:
    english = (_DATA / "headlines.txt").read_text(encoding="utf-8").splitlines()
    chinese = (_DATA / "sentences_zh.tsv").read_text(encoding="utf-8").splitlines()
    return [*english, *(line.partition("\t")[0] for line in chinese)]


@cache
def pieces(**ids: int) -> bytes:
    """A SentencePiece model of 900 pieces."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=model,
        vocab_size=900,
        character_coverage=0.98,
        minloglevel=2,
        num_threads=1,
        **ids,
    )
    return model.getvalue()


def _names(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    names = [processor.id_to_piece(number) for number in range(processor.get_piece_size())]
    return [name for name in names if name not in ("<unk>", "<s>", "</s>", "<pad>")]


SMALL = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}


def marian(folder: Path, targets: tuple[str, ...] = (), **sizes: Any) -> Translator:
    """An opus-mt model; with targets it is one for several."""
    folder.mkdir()
    (folder / "s.spm").write_bytes(pieces())
    (folder / "t.spm").write_bytes(pieces())
    codes = [f">>{target}<<" for target in targets]
    names = ["</s>", "<unk>", *_names(pieces()), *codes, "<pad>"]
    (folder / "v.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    tokenizer = tf.MarianTokenizer(
        str(folder / "s.spm"), str(folder / "t.spm"), str(folder / "v.json"),
        source_lang="zh", target_lang=None if targets else "en",
    )  # fmt: skip
    pad = len(names) - 1
    config = tf.MarianConfig(
        **{**SMALL, **sizes}, vocab_size=len(names), pad_token_id=pad, decoder_start_token_id=pad,
        eos_token_id=0, forced_eos_token_id=0,
    )  # fmt: skip
    model = livened(seeded(tf.MarianMTModel, config), 0, 1.0 if targets else -1.6)
    if targets:
        model.final_logits_bias[0, 0] = 6
    model.generation_config.bad_words_ids = [[pad], [5, 6]]
    model.generation_config.max_length = 40
    prefix = f">>{targets[1]}<< " if targets else ""
    languages = {"target": targets[1]} if targets else {}
    return Translator(model, tokenizer, languages, prefix=prefix)


def t5(folder: Path, fast: bool = True) -> Translator:
    folder.mkdir()
    (folder / "spiece.model").write_bytes(pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    kind = tf.T5TokenizerFast if fast else tf.T5Tokenizer
    tokenizer = kind(str(folder / "spiece.model"), legacy=True)
    prefix = "translate English to German: "
    said = {"max_length": 30, "num_beams": 4, "early_stopping": True}
    config = tf.T5Config(
        vocab_size=1024, d_model=32, d_kv=16, num_layers=2, num_decoder_layers=2, num_heads=2,
        d_ff=48, decoder_start_token_id=0, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        task_specific_params={
            "summarization": {"prefix": "summarize: "},
            "translation_en_to_de": {**said, "prefix": prefix},
            "translation_en_to_fr": {**said, "prefix": "translate English to French: "},
        },
    )  # fmt: skip
    model = livened(seeded(tf.T5ForConditionalGeneration, config), 1)
    model.generation_config.update(**said)  # as the pipeline of transformers does
    return Translator(model, tokenizer, {"source": "en", "target": "de"}, prefix=prefix)


def m2m100(folder: Path, lists_languages: bool = True) -> Translator:
    folder.mkdir()
    (folder / "p.model").write_bytes(pieces())
    names = ["<s>", "<pad>", "</s>", "<unk>", *_names(pieces())]
    (folder / "v.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    tokens = [f"__{code}__" for code in M2M100] if lists_languages else []
    tokenizer = tf.M2M100Tokenizer(
        str(folder / "v.json"), str(folder / "p.model"), additional_special_tokens=tokens
    )
    tokenizer.src_lang = "zh"
    config = tf.M2M100Config(**SMALL, vocab_size=len(names) + 108, decoder_start_token_id=2)
    model = livened(seeded(tf.M2M100ForConditionalGeneration, config), 2, 1.6)
    model.generation_config.max_length = 30
    model.generation_config.num_beams = 4
    model.generation_config.early_stopping = True
    languages = {"source": "zh", "target": "de"}
    return Translator(model, tokenizer, languages, tokenizer.get_lang_id("de"))


def mbart50(folder: Path, fast: bool = True) -> Translator:
    folder.mkdir()
    (folder / "sentencepiece.bpe.model").write_bytes(pieces())
    kind = tf.MBart50TokenizerFast if fast else tf.MBart50Tokenizer
    tokenizer = kind(str(folder / "sentencepiece.bpe.model"), src_lang="zh_CN")
    config = tf.MBartConfig(
        **SMALL, vocab_size=len(tokenizer), decoder_start_token_id=2, forced_eos_token_id=2
    )
    model = livened(seeded(tf.MBartForConditionalGeneration, config), 2, -1.6)
    model.generation_config.max_length = 25
    model.generation_config.no_repeat_ngram_size = 2
    languages = {"source": "zh_CN", "target": "fr"}
    return Translator(model, tokenizer, languages, tokenizer.convert_tokens_to_ids("fr_XX"))


def nllb(folder: Path, fast: bool = True) -> Translator:
    folder.mkdir()
    (folder / "sentencepiece.bpe.model").write_bytes(pieces())
    kind = tf.NllbTokenizerFast if fast else tf.NllbTokenizer
    tokenizer = kind(str(folder / "sentencepiece.bpe.model"), src_lang="zho_Hans")
    config = tf.M2M100Config(**SMALL, vocab_size=len(tokenizer), decoder_start_token_id=2)
    model = livened(seeded(tf.M2M100ForConditionalGeneration, config), 2)
    model.generation_config.max_length = 30
    model.generation_config.num_beams = 4
    model.generation_config.early_stopping = "never"
    model.generation_config.length_penalty = 1.5
    languages = {"source": "zho_Hans", "target": "en"}
    return Translator(model, tokenizer, languages, tokenizer.convert_tokens_to_ids("eng_Latn"))


def livened(model: Any, eos_id: int, end: float = 2.5) -> Any:
    """Let a random model end its texts now and then, and not say one token for ever."""
    read, written = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        read.copy_(torch.randn(read.shape, generator=generator))
        written.copy_(torch.randn(written.shape, generator=generator) * 0.4)
        written[eos_id] *= end
        for name, weight in model.named_parameters():
            if "encoder_attn.out_proj" in name or "encoder_attn.v_proj" in name:
                weight.mul_(5)  # or what is written would hardly depend on what is read
    return model


MODELS: dict[str, Callable[[Path], Translator]] = {
    "Marian": marian,
    "Marian for several languages": lambda f: marian(f, ("deu", "fra", "spa")),
    "T5": t5,
    "M2M-100": m2m100,
    "mBART-50": mbart50,
    "NLLB": nllb,
}


def let_loops_be(folder: Path) -> None:
    """Have the service write on where a text repeats itself, as transformers does."""
    (folder / "model.toml").write_text("[parameters]\nloop_window = 0\n")


async def hold_to_transformers(translator: Translator, folder: Path) -> None:
    """Compare a served directory with transformers: tokens in, tokens out, and texts."""
    let_loops_be(folder)
    written = set()
    async with serving(folder) as loaded:
        family: Any = loaded.pipeline.family
        for options in (
            {"num_beams": 1},
            {"num_beams": 4},
            {"num_beams": 4, "length_penalty": 0.6},
        ):
            items = [TranslateItem(text, **translator.languages, **options) for text in TEXTS]
            works = [family.processor.preprocess(item) for item in items]
            for work, text in zip(works, TEXTS, strict=True):
                assert work.tensors["input_ids"].tolist() == translator.asked(text)
            results = loaded.instances.infer(family.model.infer, works, exclusive=False)
            answers = await asyncio.gather(*(loaded.pipeline.answer(item, CALL) for item in items))
            for result, answered, text in zip(results, answers, TEXTS, strict=True):
                wanted = translator.generated(text, **options)
                assert result["ids"].tolist() == wanted
                if reduced(text) is None:  # the service takes emoji and invisible marks out first
                    assert answered.answer.text == translator.shown(wanted)
                written.add(tuple(wanted))
        for text in TEXTS[:3]:
            item = TranslateItem(text, **translator.languages, num_beams=4, alternatives=3)
            answered = await loaded.pipeline.answer(item, CALL)
            found = [(one.text, one.score) for one in answered.answer.alternatives]
            wanted = translator.ranked(text, 3, num_beams=4)
            assert [text for text, _ in found] == [text for text, _ in wanted]
            assert [score for _, score in found] == [
                pytest.approx(score, abs=2e-5) for _, score in wanted
            ]
    assert len(written) > len(TEXTS) // 2, "every text is translated alike"
    assert len(set(map(len, written))) > 1, "every translation is as long as the others"
