"""From a PyTorch checkpoint to a directory that the service serves with no code.

    python -m models.export SOURCE --to DIR [--in-flight] [--precisions fp16 int8 int4]
                            [--calibration FILE]
                            [--publish NAME --repository DIR]

SOURCE is a folder as `save_pretrained` writes it, or a model's name on a Hugging Face hub; for int8
of convolutions also a version or an export that the service can serve, such as Ultralytics writes.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from models.convert.checkpoint import Checkpoint, open_checkpoint
from models.convert.choice import MAX_LOSS, forms_table
from models.convert.convert import Conversion, convert
from models.convert.errors import CheckpointError
from models.convert.inflight import STEP_RECIPES, convert_in_flight
from models.convert.precisions import RECIPES
from models.convert.publish import publish
from models.convert.report import draw, table_of
from models.convert.samples import SAMPLES, read_contents
from models.convert.served import add_int8, copied, is_served
from models.convert.sources import fetch


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.export",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("source", help="folder, or a name on a hub")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument(
        "--in-flight",
        action="store_true",
        help="of a translator: graphs whose sentences are batched step by step",
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=dict.fromkeys(("fp32", *RECIPES, *STEP_RECIPES)),
        default=["fp32"],
        help="fp32 is always written",
    )
    parser.add_argument(
        "--calibration", type=Path, help="for static int8: a text a line, or a folder of images"
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        metavar="PERCENT",
        help="keep layers in fp32 until int8 and int4 deviate by no more of the largest output;\n"
        f"of convolutions, until answers change by no more (default {MAX_LOSS:g})",
    )
    parser.add_argument("--picture", type=Path, help="draw parity against time and size here")
    parser.add_argument("--publish", metavar="NAME", help="make it a model's next version too")
    parser.add_argument("--repository", type=Path, default=Path("models/repository"))
    parser.add_argument(
        "--goldens", type=Path, help="items of the goldens: a text a line, or a folder of images"
    )
    return parser.parse_args()


def main() -> int:
    """Convert from the command line; return the exit status."""
    asked = read_arguments()
    try:
        if is_served(Path(asked.source)):
            return _quantise(asked)
        checkpoint = open_checkpoint(fetch(asked.source, asked.revision))
        items = read_contents(asked.goldens) if asked.goldens else SAMPLES
        made = _made(asked, checkpoint)
        tell(made)
        if asked.picture:
            draw(made.evidence, asked.picture)
        if asked.publish:
            place = asked.repository, asked.publish
            tqdm.write(str(publish(checkpoint, asked.to, *place, made.evidence, items)))
    except CheckpointError as error:
        tqdm.write(str(error), file=sys.stderr)
        return 1
    return 0


def _quantise(asked: argparse.Namespace) -> int:
    """Copy what is served already, and add int8; return the exit status."""
    if asked.precisions not in (["int8"], ["int8-static"]):
        raise CheckpointError(
            f"{asked.source} is exported already: --precisions int8 or int8-static can be added"
        )
    if asked.in_flight or asked.publish or asked.goldens or asked.picture or asked.revision:
        raise CheckpointError(
            f"{asked.source} is exported already: only --calibration and --max-loss go with it"
        )
    images = read_contents(asked.calibration).images if asked.calibration else ()
    folder = copied(Path(asked.source), asked.to)
    is_static = asked.precisions == ["int8-static"]
    choice = add_int8(folder, images, asked.max_loss, is_static=is_static)
    tqdm.write(forms_table(choice.forms))
    if choice.graph is None:
        tqdm.write("no int8 was written")
    return int(choice.graph is None)


def _made(asked: argparse.Namespace, checkpoint: Checkpoint) -> Conversion:
    if not asked.in_flight:
        calibration = read_contents(asked.calibration) if asked.calibration else None
        return convert(checkpoint, asked.to, asked.precisions, calibration, asked.max_loss)
    if asked.calibration or asked.max_loss is not None:
        raise CheckpointError("--in-flight goes with neither --calibration nor --max-loss")
    return convert_in_flight(checkpoint, asked.to, asked.precisions)


def tell(made: Conversion) -> None:
    """Print what was tried and what each precision costs."""
    for trial in made.trials:
        outcome = f"kept, {trial.speed:.2f} times as fast" if trial.kept else "not kept"
        tqdm.write(f"{trial.name} of {trial.role}: {outcome}")
    if made.forms:
        tqdm.write(forms_table(made.forms))
    tqdm.write(table_of(made.evidence))


if __name__ == "__main__":
    sys.exit(main())
