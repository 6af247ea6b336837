"""What the protocol tells of the server and its models."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from service.protocols.oip.native import native_inputs, native_outputs
from service.protocols.oip.tensors import datatype_of
from service.registry.registry import Registry
from service.registry.status import ModelState
from service.requests.pipeline import Pipeline
from service.telemetry.meters import Spent
from service.types import TensorSpec

SERVER: Final[Mapping[str, Any]] = {
    "name": "quartet",
    "version": "1",
    "extensions": [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "statistics",
    ],
}
PLATFORM: Final = "onnxruntime_onnx"
_BACKEND: Final = "onnxruntime"

_STATES: Final = {
    ModelState.READY: "READY",
    ModelState.ON_DEMAND: "READY",
    ModelState.LOADING: "LOADING",
    ModelState.DRAINING: "UNLOADING",
    ModelState.FAILED: "UNAVAILABLE",
}


def metadata_of(pipeline: Pipeline[Any, Any]) -> Mapping[str, Any]:
    """Return name, versions, inputs and outputs of a model."""
    inputs, outputs, _ = _specs(pipeline)
    return {
        "name": pipeline.model.name,
        "versions": [str(pipeline.model.version)],
        "platform": PLATFORM,
        "inputs": _tensors(inputs),
        "outputs": _tensors(outputs),
    }


def config_of(pipeline: Pipeline[Any, Any]) -> Mapping[str, Any]:
    """Return a model's configuration as Triton describes it."""
    inputs, outputs, is_batched = _specs(pipeline)
    ceiling = max(engine.statistics().ceiling for engine in pipeline.engines.values())
    config: dict[str, Any] = {
        "name": pipeline.model.name,
        "platform": PLATFORM,
        "backend": _BACKEND,
        "version_policy": {"specific": {"versions": [pipeline.model.version]}},
        "max_batch_size": ceiling if is_batched else 0,
        "input": _configured(inputs, is_batched),
        "output": _configured(outputs, is_batched),
        "parameters": {},
    }
    if is_batched:
        config["dynamic_batching"] = {}
    signature = pipeline.family.traits.signature
    if signature is not None and signature.metadata:
        # A literal of Python, which the client of Ultralytics evaluates.
        config["parameters"] = {"metadata": {"string_value": repr(dict(signature.metadata))}}
    return config


def index_of(registry: Registry, only_ready: bool) -> Sequence[Mapping[str, Any]]:
    """Return the versions that are known, with their states."""
    statuses = registry.statuses()
    entries = [
        {
            "name": status.model,
            "version": "" if status.version is None else str(status.version),
            "state": _STATES[status.state],
            "reason": status.reason or "",
        }
        for status in statuses
    ]
    known = {status.model for status in statuses}
    entries += [
        {"name": name, "version": "", "state": "UNAVAILABLE", "reason": reason}
        for name, reason in registry.not_ready().items()
        if name not in known
    ]
    return [entry for entry in entries if entry["state"] == "READY" or not only_ready]


def statistics_of(pipeline: Pipeline[Any, Any]) -> Mapping[str, Any]:
    """Return what a version has answered since it was loaded, in this process."""
    states = [engine.statistics() for engine in pipeline.engines.values()]
    tally = pipeline.meter.tally
    return {
        "name": pipeline.model.name,
        "version": str(pipeline.model.version),
        "last_inference": round(tally.last_request * 1000),
        "inference_count": sum(state.inference_count for state in states),
        "execution_count": sum(state.execution_count for state in states),
        "inference_stats": {
            "success": _duration(tally.succeeded),
            "fail": _duration(tally.failed),
            "queue": _duration(tally.queue),
            "compute_input": _duration(tally.preprocess),
            "compute_infer": _duration(tally.compute),
            "compute_output": _duration(tally.postprocess),
            "cache_hit": _duration(tally.hits),
            "cache_miss": _duration(tally.misses),
        },
        "batch_stats": [
            {
                "batch_size": size,
                # Items are preprocessed and postprocessed one by one, before and after the batch.
                "compute_input": _duration(Spent(spent.count)),
                "compute_infer": _duration(spent),
                "compute_output": _duration(Spent(spent.count)),
            }
            for size, spent in sorted(tally.batches.items())
        ],
        "memory_usage": [],
        "response_stats": {},
    }


def serving(registry: Registry) -> Sequence[Pipeline[Any, Any]]:
    """Return the pipelines of the models that are ready."""
    ready = [one.model for one in registry.statuses() if one.state is ModelState.READY]
    return [registry.named(model) for model in dict.fromkeys(ready)]


def _specs(
    pipeline: Pipeline[Any, Any],
) -> tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec], bool]:
    traits = pipeline.family.traits
    signature = traits.signature
    if signature is not None:
        return signature.inputs, signature.outputs, signature.is_batched
    inputs = native_inputs(pipeline.modalities)
    return inputs, native_outputs(pipeline.task, traits.finds), True


def _tensors(specs: Mapping[str, TensorSpec]) -> Sequence[Mapping[str, Any]]:
    return [
        {"name": name, "datatype": datatype_of(spec.dtype), "shape": _sizes(spec.shape)}
        for name, spec in specs.items()
    ]


def _configured(specs: Mapping[str, TensorSpec], is_batched: bool) -> Sequence[Mapping[str, Any]]:
    return [
        {
            "name": name,
            "data_type": "TYPE_STRING" if spec.dtype == "string" else f"TYPE_{datatype}",
            # Triton's clients add the axis of the batch.
            "dims": (_sizes(spec.shape[1:]) or [1]) if is_batched else _sizes(spec.shape),
        }
        for name, spec in specs.items()
        for datatype in [datatype_of(spec.dtype)]
    ]


def _sizes(shape: Sequence[int | None]) -> list[int]:
    return [-1 if size is None else size for size in shape]


def _duration(spent: Spent) -> Mapping[str, int]:
    return {"count": spent.count, "ns": round(spent.seconds * 1e9)}
