"""What a folder without ONNX graphs holds instead, and what can be done about it."""

from collections.abc import Mapping, Sequence

_ARCHIVE = "an archive: unpack it"
_CHECKPOINT = "a checkpoint: export it to ONNX with python -m models.export"
_KERAS = "a Keras model: convert it to ONNX with tf2onnx"
_TENSORRT = "a TensorRT engine: serve the ONNX graph that it was built from"
_CORE_ML = "a Core ML model: export its original to ONNX"

_KINDS: Mapping[str, str] = {
    ".tflite": "a TensorFlow Lite model: convert it to ONNX with tf2onnx "
    "(python -m tf2onnx.convert --tflite FILE --output model.onnx)",
    "saved_model.pb": "a TensorFlow SavedModel: convert it to ONNX with tf2onnx "
    "(python -m tf2onnx.convert --saved-model FOLDER --output model.onnx)",
    ".pb": "a TensorFlow graph: convert it to ONNX with tf2onnx",
    ".keras": _KERAS,
    ".h5": _KERAS,
    ".gguf": "a GGUF file for llama.cpp: export the original checkpoint to ONNX",
    ".engine": _TENSORRT,
    ".plan": _TENSORRT,
    ".trt": _TENSORRT,
    ".mlmodel": _CORE_ML,
    ".mlpackage": _CORE_ML,
    ".ort": "a graph in ONNX Runtime's own format: serve the .onnx file that it was made from",
    ".xml": "perhaps an OpenVINO model: export its original to ONNX",
    ".safetensors": _CHECKPOINT,
    ".pt": _CHECKPOINT,
    ".pth": _CHECKPOINT,
    ".ckpt": _CHECKPOINT,
    ".bin": _CHECKPOINT,
    ".msgpack": _CHECKPOINT,
    ".zip": _ARCHIVE,
    ".tar": _ARCHIVE,
    ".gz": _ARCHIVE,
    ".tgz": _ARCHIVE,
}


def other_format_of(names: Sequence[str]) -> str | None:
    """Return a sentence about the first name of a known format; None if there is none."""
    for ending, what in _KINDS.items():
        for name in sorted(names):
            if name.lower().endswith(ending):
                return f"{name} is {what}"
    return None
