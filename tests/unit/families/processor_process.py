"""A process in which onnxruntime cannot be imported: it preprocesses and postprocesses.

Answers pickled requests from stdin on stdout until stdin ends.
"""

import pickle
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

RUNTIMES = ("onnxruntime", "openvino")


class _NoRuntime(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname.split(".", maxsplit=1)[0] in RUNTIMES:
            raise ImportError(f"a processor imports {fullname}")


sys.meta_path.insert(0, _NoRuntime())

from service.families import FAMILIES  # noqa: E402
from service.repository.manifest import read_parameters  # noqa: E402


def main() -> None:
    """Alternate between two requests: items to preprocess, and their results to postprocess."""
    while True:
        try:
            family, folder, parameters, items = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        entry = FAMILIES[family]
        processor = entry.open(
            Path(folder), read_parameters(parameters, entry.parameters)
        ).processor
        _reply([processor.preprocess(item) for item in items])
        results = pickle.load(sys.stdin.buffer)
        answers = [processor.postprocess(r, i) for r, i in zip(results, items, strict=True)]
        _reply((answers, [name for name in sys.modules if name.split(".")[0] in RUNTIMES]))


def _reply(value: Sequence[Any]) -> None:
    pickle.dump(value, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
