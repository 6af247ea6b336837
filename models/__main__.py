"""`python -m models --data DIR`: trains, exports and evaluates every starter model."""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

RECIPES: Mapping[str, str] = {
    "news-topics": "news_topics",
    "digits": "digits",
    "zh-en": "zh_en",
    "cards": "cards",
    "emoji": "emoji",
}
"""Model to package: `models.starters.<package>.train` and `.export`."""
FIRST: Mapping[str, str] = {"zh-en": "back_translate", "emoji": "train_images"}
"""What runs before `train`."""


def steps(model: str, data: Path, out: Path, repository: Path) -> Sequence[Sequence[str]]:
    """Return the command lines that make one model, in order."""
    module, checkpoint = RECIPES[model], str(out / model)
    source = ["--data", str(data)]
    version = repository / model / "1"
    training = [FIRST[model], "train"] if model in FIRST else ["train"]
    return (
        *([f"models.starters.{module}.{one}", *source, "--out", checkpoint] for one in training),
        [
            f"models.starters.{module}.export",
            *source,
            "--checkpoint",
            checkpoint,
            "--to",
            str(version),
        ],
        ["models.evaluate", *source, "--models", model, "--write-cards"],
    )


def main() -> int:
    """Run the recipes one after the other; stop at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for checkpoints")
    parser.add_argument("--repository", type=Path, default=Path("models/repository"))
    parser.add_argument("--models", nargs="+", choices=RECIPES, default=list(RECIPES))
    given = parser.parse_args()
    commands = [
        step
        for model in given.models
        for step in steps(model, given.data, given.out, given.repository)
    ]
    for command in tqdm(commands, desc="recipes"):
        tqdm.write("python -m " + " ".join(command))
        status = subprocess.run([sys.executable, "-m", *command], check=False).returncode  # noqa: S603
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
