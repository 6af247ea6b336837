"""Exact products of 8-bit integers on every processor.

Without VNNI instructions, ONNX Runtime's fast product of uint8 by int8 adds pairs in 16 bits and
saturates, with no warning: on an AVX2 machine sums came out up to 84 % too small. The session entry
`session.x64quantprecision` has it use an exact kernel there; with VNNI or AMX it has no effect.
"""

import logging
from typing import Any

import onnxruntime as ort

_log = logging.getLogger(__name__)

_ENTRY = "session.x64quantprecision"
_SHARED_WEIGHT = "Attempt to replace the existing tensor"


def open_exact(
    model: str | bytes, options: ort.SessionOptions, providers: list[Any]
) -> ort.InferenceSession:
    """Open a session whose integer products are exact.

    ONNX Runtime cannot do so for a graph in which two products share an int8 weight; such a graph
    is opened with the fast kernels, and a warning is logged.

    Raises:
        Exception: what onnxruntime raises for a graph that it cannot load.
    """
    options.add_session_config_entry(_ENTRY, "1")
    try:
        return ort.InferenceSession(model, options, providers=providers)
    except Exception as error:
        if _SHARED_WEIGHT not in str(error):
            raise
    _log.warning(
        "int8 products may saturate on this processor, which has no VNNI instructions: "
        "two of the graph's products share a weight"
    )
    options.add_session_config_entry(_ENTRY, "0")
    return ort.InferenceSession(model, options, providers=providers)
