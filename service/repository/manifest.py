"""`model.toml`: what a version holds and how it wants to be served."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

from pydantic import Field

from service.errors import ModelLoadError
from service.repository.paths import is_plain_path
from service.repository.tables import read_table
from service.tasks import Task

MANIFEST_NAME = "model.toml"

Precision: TypeAlias = Literal["fp32", "fp16", "int8", "uint8", "q4", "q4f16", "bnb4"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "uint8", "q4", "q4f16", "bnb4")
"""In the order in which they are fallen back on when nothing names one."""

DEFAULT_TOLERANCE = 1e-3
"""Largest deviation from the goldens for a precision that the manifest gives no tolerance."""

DeviceKind: TypeAlias = Literal["cpu", "cuda"]
_Count: TypeAlias = Annotated[int, Field(ge=1)]
_Tolerance: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Word: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batching:
    """What suits this model's batcher; an operator may override it in the settings."""

    max_batch_size: _Count = 32
    """Most items of one batch."""
    max_queue_size: _Count = 256
    """Most items that wait; more are refused with 429."""
    max_batch_cost: _Count | None = None
    """Padded cost (tokens of texts, pixels of images) of one batch; None sets no bound."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What computes the graphs; an operator may override it in the settings."""

    provider: _Word = "auto"
    """Execution provider: `cpu`, `cuda` (ONNX Runtime's), `openvino`, `tensorrt`, or `auto` for the
    fastest whose answers are exact enough (`models.exactness`)."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contract between `models.export`, which writes it, and the service, which reads it."""

    task: Task
    """What is asked of the model."""
    family: _Word
    """The architecture: what is done with the graphs' inputs and outputs."""
    graphs: Mapping[Precision, Mapping[_Word, str]]
    """Precision -> session name -> file in the version's folder."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """What graphs call an input, by what the family feeds: `input_ids = "tokens"`. Needed where
    they call it otherwise; the only input for images may have any name."""
    description: str = ""
    """A sentence for people, in `/v1/models`."""
    default_precision: Mapping[DeviceKind, Precision] = field(default_factory=dict)
    """By device; a lone name in `model.toml` is for every device."""
    batching: Batching = field(default_factory=Batching)
    """What suits this model's batcher."""
    runtime: Runtime = field(default_factory=Runtime)
    """What computes the graphs."""
    tolerance: Mapping[Precision, _Tolerance] = field(default_factory=dict)
    """Largest deviation from the goldens that still counts as the same model."""
    batch_variance: Literal["accept", "isolate", "refuse", "rows"] = "rows"
    """What to do with a graph that quantises over whole batches, whose answers to an item depend
    on its neighbours: batch it all the same, run every item alone, do not load it, or quantise by
    rows instead. By rows needs a CPU and a graph as `quantize_dynamic` writes it; another graph
    runs every item alone."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """The family's own, listed below by family."""


def read_manifest(path: Path) -> Manifest:
    """Read and check one `model.toml` that says everything.

    Raises:
        ModelLoadError: it cannot be read, or says something that cannot be. The message names
            the file, the keys, the reasons, and the nearest right key to a misspelt one.
    """
    return manifest_of(read_manifest_table(path), _called(path))


def read_manifest_table(path: Path) -> Mapping[str, Any]:
    """Read one `model.toml`, which need not say everything, without checking what it says.

    Raises:
        ModelLoadError: it cannot be read, or is not TOML.
    """
    where = _called(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{where} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # neither UTF-8 nor TOML, or nested without end
        raise ModelLoadError(f"{where} cannot be read: {error}") from None


def manifest_of(table: Mapping[str, Any], where: str) -> Manifest:
    """Check a table with the keys of a `model.toml`.

    Raises:
        ModelLoadError: it says something that cannot be. The message names `where`, the keys,
            the reasons, and the nearest right key to a misspelt one.
    """
    if isinstance(declared := table.get("default_precision"), str):
        table = {**table, "default_precision": dict.fromkeys(get_args(DeviceKind), declared)}
    manifest = read_table(table, Manifest, where)
    if problems := list(_contradictions(manifest)):
        raise ModelLoadError(f"{where}: {'; '.join(problems)}")
    return manifest


def read_parameters(parameters: Mapping[str, Any], cls: type[T], where: str = MANIFEST_NAME) -> T:
    """Return the table `[parameters]` as the dataclass of a family.

    Raises:
        ModelLoadError: a key is unknown or missing, or a value is of the wrong type.
    """
    return read_table(parameters, cls, f"{where} [parameters]")


def _called(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _contradictions(manifest: Manifest) -> Iterator[str]:
    if not manifest.graphs:
        yield "graphs names no precision"
    declared = {
        "default_precision": manifest.default_precision.values(),
        "tolerance": manifest.tolerance,
    }
    for key, precisions in declared.items():
        for precision in sorted(set(precisions) - set(manifest.graphs)):
            yield f"{key} names {precision}, of which there are no graphs"
    sessions = {frozenset(files) for files in manifest.graphs.values()}
    if len(sessions) > 1 or frozenset() in sessions:
        yield "graphs must name the same sessions, at least one, for every precision"
    for precision, files in manifest.graphs.items():
        for session, name in files.items():
            if not (is_plain_path(name) and name.endswith(".onnx")):
                # Also because ONNX Runtime takes another format by the ending ".ort".
                yield f"graphs.{precision}.{session} must name an .onnx file in this folder"
