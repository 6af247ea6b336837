"""What lies in a plain export directory, as Optimum, transformers.js and others write it."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ModelLoadError
from service.repository.manifest import PRECISIONS, Precision
from service.repository.onnx_file.reader import read_signature
from service.repository.onnx_file.records import GraphSignature
from service.repository.paths import file_inside, is_plain_path

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
PROCESSOR = "processor_config.json"
_IMAGE_PROCESSOR = "image_processor"
GENERATION = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
MODULES = "modules.json"
SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
SENTENCE_BERT = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""How sentence-transformers' first step reads texts; the first of these that says anything."""

TABLES = (
    CONFIG,
    PREPROCESSOR,
    PROCESSOR,
    GENERATION,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    SENTENCE_TRANSFORMERS,
    *SENTENCE_BERT,
)
"""The JSON objects at the top of a directory that are read."""
TABLES_OF_MODULE = (CONFIG, *SENTENCE_BERT)
"""Those in each folder that modules.json names."""

GRAPH_FOLDERS = ("", "onnx/")
"""Where graphs are looked for; of two of the same name the first counts."""

_LARGEST_JSON = 16 * 1024 * 1024

_SUFFIXES: Mapping[str, Precision] = {
    # The first that is there counts: "_quantized" is what both Optimum and transformers.js make
    # by default, and of a convolution the only int8 that ONNX Runtime has operators for.
    # "_optimized" is Optimum's optimiser; "_O1" to "_O4" and the names of instruction sets are
    # what sentence-transformers adds to a graph that it optimises or quantises.
    "": "fp32",
    "_optimized": "fp32",
    **dict.fromkeys(("_O3", "_O2", "_O1"), "fp32"),
    "_fp16": "fp16",
    "_O4": "fp16",
    "_quantized": "int8",
    "_int8": "int8",
    "_optimized_quantized": "int8",
    **dict.fromkeys(("_qint8_avx512_vnni", "_qint8_avx512", "_qint8_arm64"), "int8"),
    "_uint8": "uint8",
    "_quint8_avx2": "uint8",
    "_q4": "q4",
    "_q4f16": "q4f16",
    "_bnb4": "bnb4",
}
_GRAPH_NAME = re.compile(
    rf"(?P<role>.+?)(?P<suffix>{'|'.join(filter(None, _SUFFIXES))})?\.onnx", re.DOTALL
)

MODEL_ROLE = "model"
ROLES = frozenset(
    {
        MODEL_ROLE,
        "encoder_model",
        "decoder_model",
        "decoder_model_merged",
        "decoder_with_past_model",
        "text_model",
        "vision_model",
    }
)
"""Names that exporters give to graphs. A lone graph of another name is taken for the model."""


@dataclass(frozen=True, slots=True)
class ExportFiles:
    """A plain export directory: its tables, read and parsed, and its graphs, by name."""

    folder: Path
    root: Path
    """What no link may lead out of."""
    names: frozenset[str]
    """Files at the top and under `onnx/`, relative to the folder."""
    tables: Mapping[str, Any]
    """Parsed JSON by file name; a file that is absent is absent here."""
    graphs: Mapping[str, Mapping[Precision, str]]
    """Role -> precision -> file name relative to the folder."""

    @property
    def config(self) -> Mapping[str, Any]:
        """Return config.json; empty if it is absent, as the others below are."""
        return self.table(CONFIG)

    @property
    def preprocessor(self) -> Mapping[str, Any]:
        """Return preprocessor_config.json, or what processor_config.json has in its place."""
        if PREPROCESSOR in self.tables:
            return self.table(PREPROCESSOR)
        within = self.table(PROCESSOR).get(_IMAGE_PROCESSOR)
        return within if isinstance(within, dict) else {}

    @property
    def preprocessor_source(self) -> str | None:
        """Return where `preprocessor` is from; None if there is no such file.

        Since its version 5 transformers writes one file for the parts of a processor.
        """
        if PREPROCESSOR in self.tables:
            return PREPROCESSOR
        within = isinstance(self.table(PROCESSOR).get(_IMAGE_PROCESSOR), dict)
        return f"{PROCESSOR}: {_IMAGE_PROCESSOR}" if within else None

    @property
    def generation(self) -> Mapping[str, Any]:
        """Return generation_config.json."""
        return self.table(GENERATION)

    @property
    def tokenizer(self) -> Mapping[str, Any]:
        """Return tokenizer_config.json."""
        return self.table(TOKENIZER_CONFIG)

    @property
    def special_tokens(self) -> Mapping[str, Any]:
        """Return special_tokens_map.json."""
        return self.table(SPECIAL_TOKENS)

    @property
    def sentence_transformers(self) -> Mapping[str, Any]:
        """Return config_sentence_transformers.json."""
        return self.table(SENTENCE_TRANSFORMERS)

    @property
    def sentence_bert(self) -> tuple[str, Mapping[str, Any]]:
        """Return the name and the table of the first of `SENTENCE_BERT` that is not empty.

        They lie in the folder of the first step of modules.json, which is mostly this one.
        """
        path = str(self.modules[0].get("path") or "") if self.modules else ""
        names = [f"{path}/{name}" if path else name for name in SENTENCE_BERT]
        name = next((name for name in names if self.table(name)), names[0])
        return name, self.table(name)

    @property
    def modules(self) -> Sequence[Mapping[str, Any]]:
        """Return modules.json, the steps of a sentence-transformers model, in order."""
        steps: Sequence[Mapping[str, Any]] = self.tables.get(MODULES, ())
        return steps

    @property
    def architecture(self) -> str:
        """Return the first of the architectures that config.json names, or ""."""
        named = self.config.get("architectures")
        first = named[0] if isinstance(named, list) and named else ""
        return first if isinstance(first, str) else ""

    @property
    def model_type(self) -> str:
        """Return the model type that config.json names, or ""."""
        named = self.config.get("model_type")
        return named if isinstance(named, str) else ""

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a parsed JSON object, empty if its file is absent.

        Besides those above, the `config.json` of each folder that modules.json names is here,
        such as `1_Pooling/config.json`.
        """
        table: Mapping[str, Any] = self.tables.get(name, {})
        return table

    def signature(self, role: str = MODEL_ROLE) -> GraphSignature:
        """Return inputs, outputs and metadata of a role's graph; all precisions share them.

        Raises:
            ModelLoadError: there is no such graph, or it cannot be read.
        """
        files = self.graphs.get(role)
        if not files:
            raise ModelLoadError(f"there is no graph {role}.onnx")
        name = next(files[precision] for precision in PRECISIONS if precision in files)
        return read_signature(file_inside(name, self.folder, self.root, "graphs"))


def is_export(folder: Path) -> bool:
    """Tell whether a folder itself looks like a model, rather than holding versions of one."""
    return (
        (folder / CONFIG).is_file()
        or (folder / "model.toml").is_file()
        or any(_graph_names(_listed(folder)))
    )


def read_export(folder: Path, root: Path | None = None) -> ExportFiles:
    """Read the tables of a directory and sort its graphs. Loads nothing.

    Args:
        folder: the directory.
        root: what no link may lead out of; None means the directory itself.

    Raises:
        ModelLoadError: a table cannot be read, is too large, is not JSON or is not an object.
    """
    boundary = folder if root is None else root
    names = _listed(folder)
    tables: dict[str, Any] = {}
    for name in TABLES:
        if name in names:
            tables[name] = _object(name, folder, boundary)
    if MODULES in names:
        tables[MODULES] = modules = _modules(folder, boundary)
        for module in modules:
            for name in (f"{module.get('path')}/{file}" for file in TABLES_OF_MODULE):
                if is_plain_path(name) and (folder / name).is_file():
                    tables[name] = _object(name, folder, boundary)
    return ExportFiles(folder, boundary, names, tables, graphs_by_role(names))


def _listed(folder: Path) -> frozenset[str]:
    found = set()
    for prefix in GRAPH_FOLDERS:
        parent = folder / prefix
        if parent.is_dir():
            found |= {prefix + path.name for path in parent.iterdir() if path.is_file()}
    return frozenset(found)


def _graph_names(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.endswith(".onnx") and is_plain_path(name))


def graphs_by_role(names: Iterable[str]) -> Mapping[str, Mapping[Precision, str]]:
    """Sort the graphs among the files of a directory: role -> precision -> name."""
    found: dict[str, dict[str, str]] = {}
    ordered = sorted(_graph_names(names), key=lambda name: (name.count("/"), name))
    for name in ordered:
        parts = _GRAPH_NAME.fullmatch(name.rpartition("/")[2])
        if parts is not None:
            found.setdefault(parts["role"], {}).setdefault(parts["suffix"] or "", name)
    if len(found) == 1 and not ROLES & found.keys():
        found = {MODEL_ROLE: next(iter(found.values()))}
    return {role: _by_precision(files) for role, files in found.items()}


def _by_precision(files: Mapping[str, str]) -> Mapping[Precision, str]:
    graphs: dict[Precision, str] = {}
    for suffix, precision in _SUFFIXES.items():
        if suffix in files:
            graphs.setdefault(precision, files[suffix])
    return graphs


def _object(name: str, folder: Path, root: Path) -> Mapping[str, Any]:
    value = _parsed(name, folder, root)
    if not isinstance(value, dict):
        raise ModelLoadError(f"{name} must hold a JSON object")
    return value


def _modules(folder: Path, root: Path) -> Sequence[Mapping[str, Any]]:
    value = _parsed(MODULES, folder, root)
    if not isinstance(value, list) or not all(isinstance(step, dict) for step in value):
        raise ModelLoadError(f"{MODULES} must hold a list of JSON objects")
    return value


def _parsed(name: str, folder: Path, root: Path) -> object:
    path = file_inside(name, folder, root, folder.name)
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise ModelLoadError(f"{name} is larger than {_LARGEST_JSON >> 20} MiB")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ModelLoadError(f"{name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of bytes that are not UTF-8
        raise ModelLoadError(f"{name} is not JSON: {error}") from None
