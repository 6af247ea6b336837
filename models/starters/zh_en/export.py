"""Exports `zh-en` to a version of the model repository, after comparing it with PyTorch.

The folder of the checkpoint is the `--out` of the training recipe:

    python -m models.starters.zh_en.export --checkpoint runs/zh-en --data DIR \
        --to models/repository/zh-en/1
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from models.datasets.files import data_folder
from models.datasets.translation import EvaluationSet, read_evaluation_set
from models.graphs.files import round_to_fp16, save_graph, store_weights_as_fp16
from models.graphs.in_flight import step_graphs
from models.graphs.translator_weights import TranslatorWeights
from models.graphs.writer import Arithmetic
from models.starters.export_command_line import read_export_request
from models.starters.zh_en.model import BOS_ID, EOS_ID, PAD_ID, Translator, load_translator
from models.starters.zh_en.scores import Scores, open_translator, scores
from models.starters.zh_en.search import (
    Tokenizers,
    TorchSteps,
    translate_all,
)
from models.starters.zh_en.weights import weights_of
from models.version_files import Goldens, TomlValue, write_card, write_manifest
from service.families.translation.search.decoding import Decoding

MAX_SOURCE_LENGTH = 200
SEARCH = Decoding(num_beams=4, length_penalty=1.0, max_new_tokens=128)
GREEDY = SEARCH._replace(num_beams=1)
GRAPHS = {
    "fp32": {
        "encoder": "encoder_model.onnx",
        "join": "join.onnx",
        "step": "step.onnx",
        "move": "move.onnx",
    },
    "int8": {
        "encoder": "encoder_model_int8.onnx",
        "join": "join.onnx",
        "step": "step_int8.onnx",
        "move": "move.onnx",
    },
}
TOKENIZER_FILES = ("source_tokenizer.json", "target_tokenizer.json")
ARITHMETICS: tuple[Arithmetic, ...] = ("fp32", "int8")
MANIFEST: dict[str, TomlValue] = {
    "task": "translate",
    "family": "encoder_decoder_steps",
    "description": "Chinese to English, for short everyday sentences, not for news or long texts",
    "graphs": GRAPHS,
    # int8 takes about 0.7 of the time with VNNI instructions, and answers a tenth otherwise
    "default_precision": {"cpu": "fp32", "cuda": "fp32"},
    "batching": {"max_batch_size": 32, "max_queue_size": 256, "max_batch_cost": 4096},
    "tolerance": {"fp32": 0.1, "int8": 0.35},  # shares of goldens whose text differs
    "parameters": {
        "tokenizer_files": list(TOKENIZER_FILES),
        "rules": {"start_id": BOS_ID, "eos_ids": [EOS_ID]},
        "source_language": "zh",
        "target_language": "en",
        "pad_id": PAD_ID,
        "max_source_length": MAX_SOURCE_LENGTH,
        "max_target_length": SEARCH.max_new_tokens,
        "num_beams": SEARCH.num_beams,
        "length_penalty": SEARCH.length_penalty,
        # Of 14 sentences 14, 14, 13 and 14 kept the name, and 12 Python; all of 12 the number.
        "stand_ins": {
            "names": [
                ["汤姆", "Tom"],
                ["约翰", "John"],
                ["玛丽", "Mary"],
                ["北京", "Beijing"],
                ["Python", "Python"],
            ],
            "numbers": [["97", "97"], ["78", "78"], ["85", "85"]],
        },
    },
}
GOLDEN_TEXTS = (
    "你好！",
    "我喜欢喝茶。",
    "汤姆昨天没有去学校。",
    "今天天气很好，我们去公园吧。",
    "请问，火车站在哪里？",
    "如果明天下雨，我就待在家里看书。",
    "我不知道他为什么这么生气",
    "返回一个由字典的键组成的新列表。",
    "如果 path 是一个现有的目录则返回 True。",
    "她比我大三岁，会说法语、英语和一点儿德语，可是她的弟弟只会说汉语。",
    "你能幫我打開窗戶嗎？",
    "２０２４年１２月３１日，ＡＢＣ！",
    "我爱你😀❤️",
    "Hello, world!",
    "龘",
)
CARD = Path(__file__).with_name("card.md")


Translate = Callable[[Sequence[str], Decoding], list[str]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One precision of the translator, as something that can be asked."""

    precision: str
    translate: Translate


def write_graphs(weights: TranslatorWeights, folder: Path) -> None:
    """Write the graphs, in half precision what it can hold."""
    for arithmetic in ARITHMETICS:
        for name, graph in step_graphs(weights, arithmetic).items():
            stored = store_weights_as_fp16(graph, exact=False)
            save_graph(stored, folder / GRAPHS[arithmetic][name])


def write_goldens(model: Translator, tokenizers: Tokenizers, folder: Path) -> None:
    """Record what the PyTorch network answers, each sentence alone."""
    goldens = Goldens(folder)
    steps = TorchSteps(model)
    for text in GOLDEN_TEXTS:
        [translation] = translate_all(steps, tokenizers, [text], SEARCH)
        goldens.add_text(text, {"translation": translation})
    for text in GOLDEN_TEXTS[2:5]:
        [translation] = translate_all(steps, tokenizers, [text], GREEDY)
        goldens.add_text(text, {"translation": translation}, num_beams=1)
    goldens.write()


def check_parity(
    model: Translator, tokenizers: Tokenizers, fp32: Candidate, held_out: EvaluationSet
) -> None:
    """Compare fp32 with PyTorch on 200 dev sentences, greedily and with beams.

    Raises:
        ValueError: if a translation differs.
    """
    texts = held_out.zh[:200]
    for options in (GREEDY, SEARCH):
        expected = translate_all(TorchSteps(model), tokenizers, texts, options)
        found = fp32.translate(texts, options)
        different = sum(one != other for one, other in zip(expected, found, strict=True))
        tqdm.write(f"{options.num_beams} beams: {different} of {len(texts)} differ")
        if different:
            raise ValueError("the fp32 graphs do not answer as PyTorch does")


def measure(candidate: Candidate, held_out: EvaluationSet, search: Decoding) -> Scores:
    """Translate a whole set and score it."""
    return scores(candidate.translate(held_out.zh, search), held_out)


def dev_table(candidates: list[Candidate], held_out: EvaluationSet) -> str:
    """A Markdown table of BLEU and chrF by precision and search.

    Raises:
        ValueError: if int8 loses more than a point of BLEU.
    """
    lines = ["| precision | beams | BLEU | chrF |", "| --- | ---: | ---: | ---: |"]
    found = {
        (candidate.precision, search.num_beams): measure(candidate, held_out, search)
        for candidate, search in tqdm(list(product(candidates, (GREEDY, SEARCH))), desc="dev")
    }
    lines += [f"| {p} | {n} | {one.bleu:.2f} | {one.chrf:.2f} |" for (p, n), one in found.items()]
    loss = found["fp32", SEARCH.num_beams].bleu - found["int8", SEARCH.num_beams].bleu
    if loss > 1.0:
        raise ValueError(f"int8 loses {loss:.2f} BLEU on dev")
    return "\n".join(lines)


def megabytes(folder: Path, names: list[str]) -> str:
    """Size of some files together, for the card."""
    return f"{sum((folder / name).stat().st_size for name in names) / 1e6:.1f} MB"


def card(model: Translator, folder: Path, table: str) -> str:
    """The model card with its numbers."""
    return CARD.read_text(encoding="utf-8").format(
        weights=f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} M",
        fp32_size=megabytes(folder, list(GRAPHS["fp32"].values())),
        int8_size=megabytes(folder, list(GRAPHS["int8"].values())),
        tokenizer_size=megabytes(folder, list(TOKENIZER_FILES)),
        source_vocabulary=model.sizes.source_vocabulary,
        target_vocabulary=model.sizes.target_vocabulary,
        table=table,
    )


def main() -> None:
    """Export what the command line asks for."""
    request = read_export_request(__doc__)
    torch.set_num_threads(1)
    folder = request.to
    folder.mkdir(parents=True, exist_ok=True)
    model = load_translator(request.checkpoint / "best.pt")
    round_to_fp16(model)
    for name in TOKENIZER_FILES:
        shutil.copyfile(request.checkpoint / name, folder / name)
    tokenizers = Tokenizers(*(Tokenizer.from_file(str(folder / name)) for name in TOKENIZER_FILES))
    tokenizers.source.enable_truncation(MAX_SOURCE_LENGTH)
    write_graphs(weights_of(model, MAX_SOURCE_LENGTH, SEARCH.max_new_tokens), folder)
    write_manifest(folder, MANIFEST)
    candidates = [Candidate(precision, open_translator(folder, precision)) for precision in GRAPHS]
    write_goldens(model, tokenizers, folder)
    held_out = read_evaluation_set(data_folder(request.data, "tatoeba_zh_en") / "dev.jsonl.gz")
    check_parity(model, tokenizers, candidates[0], held_out)
    write_card(folder, card(model, folder, dev_table(candidates, held_out)))


if __name__ == "__main__":
    main()
