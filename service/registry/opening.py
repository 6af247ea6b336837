"""From a version's files to a model with open sessions."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from service.engine.device import DeviceRuntime
from service.engine.factory import RunnableModel
from service.errors import InferenceError, ModelLoadError
from service.families import FAMILIES
from service.families.family import Opened
from service.registry.checks import check_shapes, is_isolated
from service.repository.manifest import Manifest, read_parameters
from service.repository.onnx_file.analysis import (
    BATCH_WIDE,
    BOUNDED,
    content_sized,
    operators,
    shared_initializers,
)
from service.repository.onnx_file.cut import GraphPart, disjoint_parts
from service.repository.onnx_file.reader import read_onnx
from service.repository.onnx_file.records import OnnxFile
from service.repository.onnx_file.rows import RowScaledGraph, can_scale_rows
from service.repository.repository import VersionFiles
from service.runtime.graphs import Graph, SharingGraph
from service.runtime.instances import Instances
from service.runtime.providers import Device
from service.runtime.stopping import apart
from service.tasks import Ability
from service.types import Session, Sessions


@dataclass(frozen=True, slots=True)
class OpenVersion:
    """A version whose sessions are open."""

    modalities: frozenset[str]
    abilities: frozenset[Ability]
    family: Opened[Any, Any]
    runnable: RunnableModel
    batch_wide: Sequence[str]
    """Sessions whose graph quantises over whole batches."""
    row_scaled: Sequence[str]
    """Sessions whose graph did so in its file, and quantises by rows here."""


def abilities_of(manifest: Manifest) -> frozenset[Ability]:
    """Return what a model can do, by its manifest; nothing for an unknown family."""
    entry = FAMILIES.get(manifest.family)
    if entry is None:
        return frozenset()
    own = frozenset((manifest.task, modality) for modality in entry.modalities)
    try:
        return own | entry.composed(read_parameters(manifest.parameters, entry.parameters))
    except (ModelLoadError, ValueError):  # loading the version says what is wrong
        return own


async def open_version(
    files: VersionFiles,
    runtime: DeviceRuntime,
    multi_thread: bool = True,
    *,
    first: Device | None = None,
    others: Mapping[str, Device] | None = None,
) -> OpenVersion:
    """Open a version's family, check that its graphs fit, and open its sessions on the device.

    Args:
        files: the version.
        runtime: the device.
        multi_thread: whether to open the multi-thread sessions.
        first: the runtime's device with another provider, if it is to be used.
        others: sessions that run on yet another one, and which.

    Raises:
        ModelLoadError: a file is missing or broken, the graphs do not fit the family, or the
            manifest refuses graphs whose answers depend on the other items of a batch.
    """
    content = await apart(_read_graphs, files)
    wide = [name for name, path in files.graphs.items() if operators(content[path]) & BATCH_WIDE]
    by_rows = [
        name for name in wide if _by_rows(files, content[files.graphs[name]], runtime.device)
    ]
    wide = [name for name in wide if name not in by_rows]
    is_isolated(files, wide)
    varying = frozenset[str]().union(*map(content_sized, content.values()))
    family = await apart(open_family, files)
    await apart(check_shapes, files, family)
    device = first or runtime.device
    if (beside := device.provider.beside) is not None:
        in_place = dict.fromkeys(family.traits.in_place, replace(device, kind=beside))
        others = {**in_place, **(others or {})}
    graphs = await apart(_graphs, files, content, family, device, by_rows)
    in_flight = family.traits.in_flight
    opening = partial(
        _open_session,
        keeps_patterns=in_flight is None,
        is_bounded=in_flight is not None or varying <= BOUNDED,
        input_names=files.manifest.inputs,
    )
    instances = await apart(
        Instances, graphs, device, runtime.threads, opening, multi_thread, others
    )
    if family.traits.settle is not None:
        family = await apart(_settled, files, family.traits.settle, instances)
    version = (files.model, str(files.version))
    runnable = RunnableModel(family.model, in_flight, instances, not varying, version)
    modalities = FAMILIES[files.manifest.family].modalities
    return OpenVersion(modalities, abilities_of(files.manifest), family, runnable, wide, by_rows)


def _open_session(graph: Graph, device: Device, threads: int, **options: Any) -> Session:
    return device.provider.opens(graph, device, threads, **options)


def _by_rows(files: VersionFiles, graph: OnnxFile, device: Device) -> bool:
    """Return whether to open a graph that quantises over whole batches by rows instead."""
    wanted = files.manifest.batch_variance == "rows"
    return wanted and device.provider.is_on_host and can_scale_rows(graph)


def open_family(files: VersionFiles) -> Opened[Any, Any]:
    """Read what a version's family needs besides its graphs. Raises ModelLoadError."""
    entry = FAMILIES.get(files.manifest.family)
    if entry is None or entry.task is not files.manifest.task:
        known = ", ".join(n for n, e in FAMILIES.items() if e.task is files.manifest.task)
        raise ModelLoadError(
            f"family {files.manifest.family!r} does not answer {files.manifest.task}; "
            f"these do: {known}"
        )
    where = f"{files.model}/{files.version}/model.toml"
    parameters = read_parameters(files.manifest.parameters, entry.parameters, where)
    try:
        return entry.open(files.folder, parameters)
    except (OSError, ValueError, MemoryError, ModelLoadError) as error:
        reason = str(error).replace(f"{files.folder}/", "")  # clients need no paths of this machine
        raise ModelLoadError(f"{files.model}/{files.version}: {reason}") from error


def _settled(
    files: VersionFiles, settle: Callable[[Sessions], Opened[Any, Any]], instances: Instances
) -> Opened[Any, Any]:
    """Return the family as it fits its graph. Raises ModelLoadError."""
    try:
        return instances.use(settle, exclusive=False)
    except InferenceError as error:
        raise ModelLoadError(f"{files.model}/{files.version}: {error}") from error


def _read_graphs(files: VersionFiles) -> Mapping[Path, OnnxFile]:
    """Read a version's graphs without their weights. Raises ModelLoadError."""
    return {path: read_onnx(path) for path in files.graphs.values()}


def _graphs(
    files: VersionFiles,
    content: Mapping[Path, OnnxFile],
    family: Opened[Any, Any],
    device: Device,
    by_rows: Sequence[str],
) -> Mapping[str, Graph]:
    """Return what to open by session: graphs, or parts of them. Raises ModelLoadError."""
    graphs: dict[str, Path | GraphPart] = dict(files.graphs)
    row_scaled = {files.graphs[name] for name in by_rows}
    for name, outputs in family.traits.parts.items():
        file = files.graphs.get(name)
        if file is not None and (parts := disjoint_parts(file, content[file], outputs)):
            del graphs[name]
            graphs.update(parts)
    if not device.provider.is_on_host:
        return graphs
    return {name: _on_host(graph, content, row_scaled) for name, graph in graphs.items()}


def _on_host(
    graph: Path | GraphPart, content: Mapping[Path, OnnxFile], row_scaled: Collection[Path]
) -> Graph:
    """Return a graph quantised by rows, if it is among those, and with shared tables, if any."""
    file, part = (graph, None) if isinstance(graph, Path) else (graph.file, graph)
    made = RowScaledGraph(file, part) if file in row_scaled else graph
    tables = shared_initializers(content[file])
    return SharingGraph.of(made, tables) if tables else made
