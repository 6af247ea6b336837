"""The same weights for Quartet's engine, its plain loop and CTranslate2, made on the spot."""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ctranslate2
import onnx
import onnxruntime as ort
import torch
from ctranslate2.converters import TransformersConverter
from optimum.exporters.onnx import onnx_export_from_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import MarianMTModel

from benchmarks.translation import countdown
from models.convert.precisions import make_precision
from models.graphs.files import save_graph
from models.graphs.in_flight import step_graphs
from models.graphs.pretrained_weights import weights_of
from models.version_files import write_manifest

MODEL = "opus-mt-size"
LONGEST = 128
"""Most tokens of a source and of a translation."""

_UNKNOWN = "<unk>"
_PAD = countdown.OPUS_MT.vocabulary - 1
_SOURCES = ("benchmarks/translation/countdown.py", "benchmarks/translation/folders.py")
_EXPORTERS = "models/export/*.py"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where everything is."""

    quartet: Path
    """A model repository: step graphs in int8, batched in flight."""
    plain: Path
    """A model repository: Optimum's graphs with weights in int8, in static batches."""
    ctranslate2: Path
    """A converted model, and the tokenizer."""

    @property
    def version(self) -> Path:
        """Return the folder of the version that is batched in flight."""
        return self.quartet / MODEL / "1"


def prepare(cache: Path) -> Folders:
    """Make everything, unless the very same was made before."""
    root = cache / "translation"
    folders = Folders(root / "quartet", root / "plain", root / "ctranslate2")
    stamp, wanted = root / "made_by.txt", _digest()
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return folders
    shutil.rmtree(root, ignore_errors=True)
    torch.set_num_threads(1)
    network = countdown.network()
    _write_quartet(network, folders.version)
    _write_plain(network, folders.plain / MODEL / "1")
    _write_ctranslate2(network, folders.ctranslate2)
    stamp.write_text(wanted, encoding="utf-8")
    return folders


def _digest() -> str:
    """Return what changes when the code that makes all this changes."""
    digest = hashlib.blake2b(f"{ort.__version__} {ctranslate2.__version__}".encode())
    for path in [*map(Path, _SOURCES), *sorted(Path().glob(_EXPORTERS))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def tokenizer() -> Tokenizer:
    """Return what turns words into tokens and back; sources get an end."""
    vocabulary = {word: token for token, word in enumerate(countdown.words())}
    found = Tokenizer(WordLevel(vocabulary, unk_token=_UNKNOWN))
    found.pre_tokenizer = WhitespaceSplit()
    found.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", countdown.EOS)]
    )
    return found


_COMMON: Final[Mapping[str, Any]] = {
    "pad_id": _PAD,
    "max_source_length": LONGEST,
    "max_target_length": LONGEST,
    "source_language": "zh",
    "target_language": "en",
}


def _write_quartet(network: MarianMTModel, folder: Path) -> None:
    graphs = {}
    for name, graph in step_graphs(weights_of(network, [_PAD]), "int8").items():
        graphs[name] = f"{name}.onnx"
        save_graph(graph, folder / graphs[name])
    _write_tokenizers(folder)
    own = {
        "rules": {"start_id": _PAD, "eos_ids": [countdown.EOS], "bad_words": [[_PAD]]},
        "forbidden": [_PAD],
        "tokenizer_files": ["source_tokenizer.json", "target_tokenizer.json"],
    }
    _write_manifest(folder, "encoder_decoder_steps", graphs, {**_COMMON, **own})


def _write_plain(network: MarianMTModel, folder: Path) -> None:
    """Write what `python -m models.export SOURCE --precisions int8` would."""
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as fp32:
        task = "text2text-generation-with-past"
        onnx_export_from_model(
            network, Path(fp32), task=task, opset=18, do_validation=False, no_post_process=True
        )
        graphs = {}
        for role in ("encoder_model", "decoder_model", "decoder_with_past_model"):
            session = role.removesuffix("_model")
            graphs[session] = f"{role}.onnx"
            graph = onnx.load(str(Path(fp32, graphs[session])))
            save_graph(make_precision("int8", graph, ()), folder / graphs[session])
    tokenizer().save(str(folder / "tokenizer.json"))
    rules = {"start_id": _PAD, "eos_ids": [countdown.EOS], "bad_words": [[_PAD]]}
    _write_manifest(folder, "encoder_decoder", graphs, {**_COMMON, "cache": "pair", "rules": rules})


def _write_manifest(
    folder: Path, family: str, graphs: Mapping[str, str], parameters: Mapping[str, Any]
) -> None:
    write_manifest(
        folder,
        {
            "task": "translate",
            "family": family,
            "description": "Size of opus-mt-zh-en, random weights that count down",
            "graphs": {"int8": dict(graphs)},
            "default_precision": {"cpu": "int8"},
            "batching": {"max_batch_size": 32, "max_queue_size": 512, "max_batch_cost": 4096},
            "parameters": dict(parameters),
        },
    )


class _Words:
    """As much of a tokenizer as the converter asks for."""

    eos_token, unk_token = "</s>", _UNKNOWN

    def get_vocab(self) -> Mapping[str, int]:
        return {word: token for token, word in enumerate(countdown.words())}


def _write_ctranslate2(network: MarianMTModel, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as saved:
        network.save_pretrained(saved)
        converter: Any = TransformersConverter(saved)
        converter.load_tokenizer = lambda *_, **__: _Words()
        converter.convert(str(folder), quantization="int8", force=True)
    _write_tokenizers(folder)


def _write_tokenizers(folder: Path) -> None:
    for name in ("source_tokenizer.json", "target_tokenizer.json"):
        tokenizer().save(str(folder / name))
