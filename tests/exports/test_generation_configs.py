"""Generation configs as people write them, drawn at random, against `generate` on PyTorch."""

import copy
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')
pytest.importorskip("onnxslim", reason='needs the extra "train"')

from transformers import GenerationConfig  # noqa: E402

from models.convert.errors import CheckpointError  # noqa: E402
from models.convert.inflight import convert_in_flight  # noqa: E402
from service.errors import ModelLoadError  # noqa: E402
from service.families import FAMILIES  # noqa: E402
from service.repository.layouts.inference import infer  # noqa: E402
from service.repository.manifest import read_parameters  # noqa: E402
from service.tasks import TranslateItem  # noqa: E402
from tests.exports import translators  # noqa: E402
from tests.exports.exporting import export_directory  # noqa: E402
from tests.exports.serving import serving  # noqa: E402
from tests.exports.test_translators_in_flight import saved  # noqa: E402
from tests.exports.translators import TEXTS, Translator, let_loops_be  # noqa: E402
from tests.sentences import sentence  # noqa: E402

pytestmark = [
    pytest.mark.looptime(False),
    pytest.mark.filterwarnings("ignore"),  # transformers' own
]

INERT: Mapping[str, Any] = {
    "diversity_penalty": 0.5,
    "do_sample": False,
    "max_matching_ngram_size": 2,
    "num_return_sequences": 1,
    "output_scores": True,
    "penalty_alpha": 0.0,
    "remove_invalid_values": True,
    "temperature": 0.7,
    "top_k": 7,
    "top_p": 0.6,
    "typical_p": 0.9,
    "use_cache": True,
}


def liking_padding(folder: Path) -> Translator:
    """An opus-mt model; as those do, it finds its padding token probable."""
    translator = translators.marian(folder)
    with torch.no_grad():
        translator.model.final_logits_bias[0, translator.model.config.pad_token_id] = 4.0
    return translator


def drawn(seed: int, usual: Mapping[str, Any], vocabulary: int, in_flight: bool) -> dict[str, Any]:
    """Draw a generation config that the engine serves."""
    dice = random.Random(seed)
    pad = usual["pad_token_id"]

    def tokens(count: int) -> list[int]:
        return dice.sample(range(2, vocabulary - 1), count)

    rules: dict[str, Any] = {
        "bad_words_ids": [[pad], *([word] for word in tokens(9))],
        "early_stopping": dice.choice([True, False, "never"]),
        "forced_bos_token_id": tokens(1)[0],
        "forced_eos_token_id": 0,
        "length_penalty": dice.choice([0.2, 0.8, 1.3, 2.0]),
        "suppress_tokens": tokens(40),
    }
    looks_back = {
        "bad_words_ids": [[pad], tokens(2), *([word] for word in tokens(5))],
        "min_length": dice.randint(2, 12),
        "no_repeat_ngram_size": dice.randint(2, 4),
        "repetition_penalty": dice.choice([1.1, 1.6]),
    }
    static = {
        **looks_back,
        "begin_suppress_tokens": tokens(200),
        "encoder_no_repeat_ngram_size": dice.randint(1, 2),
        "exponential_decay_length_penalty": [dice.randint(1, 6), dice.choice([1.05, 1.3])],
        "min_new_tokens": dice.randint(2, 12),
        "repetition_penalty": dice.choice([0.8, 1.1, 1.6]),
        "sequence_bias": [[[token], dice.choice([-3.0, 2.5])] for token in tokens(20)]
        + [[tokens(2), -9.0]],
    }
    renormalizes = seed % 2 == 0
    if not in_flight:
        rules |= static
    elif not renormalizes:
        rules |= looks_back
    chosen = dice.sample(sorted(rules), dice.randint(2, 6))
    if "exponential_decay_length_penalty" in chosen:  # refused with what may forbid to end
        ends = {"encoder_no_repeat_ngram_size", "min_length", "min_new_tokens"}
        chosen = [key for key in chosen if key not in ends]
    inert = dice.sample(sorted(INERT), 3)
    return {
        **{key: usual[key] for key in usual if key not in rules and not key.startswith("_")},
        **{key: rules[key] for key in chosen},
        **{key: INERT[key] for key in inert},
        "renormalize_logits": renormalizes,
        "num_beams": 4,
    }


def written(folder: Path, loaded: Any) -> Iterator[tuple[str, int, list[int]]]:
    """What the service writes by the files of a folder, greedy and with four beams."""
    told = infer(folder).table
    entry = FAMILIES[told["family"]]
    parameters = read_parameters({**told["parameters"], "loop_window": 0}, entry.parameters)
    family: Any = entry.open(folder, parameters)
    for beams in (1, 4):
        works = [
            family.processor.preprocess(TranslateItem(text, num_beams=beams)) for text in TEXTS
        ]
        results = loaded.instances.infer(family.model.infer, works, exclusive=False)
        for text, result in zip(TEXTS, results, strict=True):
            yield text, beams, result["ids"].tolist()


def compared(translator: Translator, config: Mapping[str, Any], found: Any) -> None:
    kept = translator.model.generation_config
    translator.model.generation_config = GenerationConfig(**config)
    try:
        for text, beams, ids in found:
            # Without beams transformers warns of settings that are for beams, and ignores them.
            assert ids == translator.generated(text, num_beams=beams), str(config)[:1500]
    finally:
        translator.model.generation_config = kept


async def test_a_drawn_config_is_searched_by_as_transformers_does(tmp_path: Path) -> None:
    translator = liking_padding(tmp_path / "tokenizer")
    model = copy.deepcopy(translator.model)
    folder = export_directory(
        model, translator.tokenizer, tmp_path / "m", "text2text-generation-with-past"
    )
    let_loops_be(folder)
    path = folder / "generation_config.json"
    usual = json.loads(path.read_text())
    answers = set()
    async with serving(folder) as loaded:
        for seed in range(24):
            config = drawn(seed, usual, translator.model.config.vocab_size, in_flight=False)
            path.write_text(json.dumps(config))
            found = list(written(folder, loaded))
            compared(translator, config, found)
            answers.add(str(found))
    assert len(answers) > 20, "the configs hardly change anything"


@pytest.mark.parametrize("seed", range(4))
async def test_so_is_one_in_flight(seed: int, tmp_path: Path) -> None:
    translator = liking_padding(tmp_path / "tokenizer")
    usual = translator.model.generation_config.to_diff_dict()
    config = drawn(seed, usual, translator.model.config.vocab_size, in_flight=True)
    checkpoint = saved(translator, tmp_path / "source")
    (checkpoint.folder / "generation_config.json").write_text(json.dumps(config))
    convert_in_flight(checkpoint, tmp_path / "m")
    let_loops_be(tmp_path / "m")
    async with serving(tmp_path / "m") as loaded:
        compared(translator, config, written(tmp_path / "m", loaded))


REFUSED: Mapping[str, Any] = {
    "constraints": [1],
    "encoder_repetition_penalty": 1.2,
    "force_words_ids": [[5]],
    "guidance_scale": 1.5,
    "num_beam_groups": 2,
    "stop_strings": ["."],
    "token_healing": True,
    "watermarking_config": {"bias": 2.5},
    "penalty_alpha": 0.6,
}


def test_what_would_change_a_translation_and_is_not_served_is_refused_by_name(
    tmp_path: Path,
) -> None:
    translator = translators.marian(tmp_path / "tokenizer")
    folder = tmp_path / "m"
    translator.tokenizer.save_pretrained(folder)
    translator.model.config.save_pretrained(folder)
    for name in ("encoder_model", "decoder_model_merged"):
        (folder / f"{name}.onnx").touch()
    usual = {"eos_token_id": 0, "pad_token_id": 5, "decoder_start_token_id": 5}
    for key, value in REFUSED.items():
        (folder / "generation_config.json").write_text(json.dumps({**usual, key: value}))
        with pytest.raises(ModelLoadError, check=sentence):
            infer(folder)
    for config in (dict.fromkeys(REFUSED), {"penalty_alpha": 0.6, "num_beams": 4}):
        (folder / "generation_config.json").write_text(json.dumps({**usual, **config}))
        infer(folder)


def test_what_a_step_graph_cannot_renormalize_is_refused_before_it_is_written(
    tmp_path: Path,
) -> None:
    translator = liking_padding(tmp_path / "tokenizer")
    translator.model.generation_config.renormalize_logits = True
    translator.model.generation_config.no_repeat_ngram_size = 3
    with pytest.raises(CheckpointError, check=sentence):
        convert_in_flight(saved(translator, tmp_path / "source"), tmp_path / "m")
