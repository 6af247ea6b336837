"""Distils a transformers classifier into a smaller one, which `models.export` takes.

    python -m models.distil TEACHER --to DIR --data FILE [--layers 3] [--width 192] [--minutes 30]

TEACHER is a folder as `save_pretrained` writes it, or a model's name on a Hugging Face hub. FILE
is a data file as `models.evaluate` takes it; its labels count only with `--labels`, and it need
not have any: what the teacher answers is what is learnt.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from models.compress.learning import Course
from models.compress.lessons import Lessons, lessons_of
from models.compress.students import Size, read, student_of
from models.compress.teaching import Balance, distil
from models.compress.writing import weights_of, write_checkpoint
from models.convert.checkpoint import open_checkpoint
from models.convert.errors import CheckpointError
from models.convert.sources import fetch


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.distil",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("teacher", help="folder of a checkpoint, or its name on a hub")
    parser.add_argument("--to", type=Path, required=True, help="folder to write")
    parser.add_argument("--data", type=Path, required=True, help="data file to learn from")
    parser.add_argument("--revision", help="branch, tag or commit on the hub")
    parser.add_argument("--layers", type=int, help="of the student; as the teacher if not said")
    parser.add_argument("--width", type=int, help="of its states")
    parser.add_argument("--heads", type=int, help="of attention, in each layer")
    parser.add_argument("--inner", type=int, help="width of its feed-forward networks")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=3e-4, help="peak learning rate")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=2.0)
    parser.add_argument("--states", type=float, default=1.0, help="how much its states count")
    parser.add_argument("--labels", type=float, default=0.0, help="how much the labels count")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    return parser.parse_args()


def main() -> int:
    """Distil from the command line; return the exit status."""
    asked = read_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(asked.threads)
    try:
        teacher = open_checkpoint(fetch(asked.teacher, asked.revision))
        size = Size(asked.layers, asked.width, asked.heads, asked.inner)
        student = student_of(teacher, size)
        lessons = lessons_of(teacher, asked.data, asked.batch, labels=asked.labels > 0)
        model = teacher.model
        distil(
            student,
            (lambda lesson: read(student, lesson), lambda lesson: read(model, lesson)),
            lessons.epoch,
            Course(asked.minutes, asked.rate),
            Balance(states=asked.states, labels=asked.labels, temperature=asked.temperature),
        )
        write_checkpoint(student, teacher, asked.to)
    except CheckpointError as error:
        tqdm.write(str(error), file=sys.stderr)
        return 1
    same, count = agreement(student, model, lessons)
    tqdm.write(
        f"wrote {asked.to}: {weights_of(student):,} weights, distilled from {weights_of(model):,}; "
        f"same best label as the teacher for {same / count:.1%} of the {count:,} items of "
        f"{asked.data}"
    )
    return 0


@torch.no_grad()
def agreement(student: Any, teacher: Any, lessons: Lessons) -> tuple[int, int]:
    """Return how many items both models give the same best label, and the number of items."""
    same, count = 0, 0
    for lesson in tqdm(lessons.epoch(), desc="agreement", unit="batch", leave=False):
        best = [model(**lesson.inputs).logits.argmax(-1) for model in (student, teacher)]
        same, count = same + int((best[0] == best[1]).sum()), count + len(best[0])
    return same, count


if __name__ == "__main__":
    sys.exit(main())
