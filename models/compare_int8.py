"""Compares the forms of int8 (and int4) on the starters: speed, quality, size, batch invariance.

Each form of a model is made from its fp32 graphs and served as a version of its own, all at once;
items go through them in turns, so that whatever disturbs the machine disturbs all alike. Times are
those of the processor, not of the clock: of whole items through the service, one at a time and 64
in flight, and of the bare graph at batches of 1 and 16 on one thread.

    python -m models.compare_int8 --data DIR [--models news-topics emoji] [--to FILE.json]
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from tqdm import tqdm

from models.evaluate.command import REPOSITORY, SUBJECTS
from models.evaluate.forms import (
    Form,
    graph_times,
    item_times,
    versions_in_forms,
)
from models.evaluate.measures import Measure
from models.evaluate.served import Served, serve

_NAMES = ("ms of CPU an item, alone", "ms of CPU an item, 64 in flight")


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.compare_int8",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--data", type=Path, help="folder of the data sets; without, no quality")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=15, help="turns of each form")
    parser.add_argument("--to", type=Path, help="JSON file to write")
    return parser.parse_args()


def main() -> int:
    """Compare from the command line."""
    asked = read_arguments()
    told: dict[str, Mapping[str, Mapping[str, float]]] = {}
    for model in asked.models:
        with tempfile.TemporaryDirectory() as folder:
            forms = versions_in_forms(REPOSITORY / model / "1", Path(folder))
            found = asyncio.run(compare(model, forms, asked.data, asked.rounds))
        told[model] = {
            form.name: {one.name: one.value for one in own}
            for form, own in zip(forms, found, strict=True)
        }
        tqdm.write(f"\n{model}\n{table_of(forms, found)}")
        if asked.to is not None:
            asked.to.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return 0


async def compare(
    model: str, forms: Sequence[Form], data: Path | None, rounds: int
) -> list[list[Measure]]:
    """Return what was measured of each form, the same measures in the same order."""
    async with AsyncExitStack() as stack:
        served = [
            await stack.enter_async_context(serve(form.repository, form.model, "fp32"))
            for form in tqdm(forms, desc=f"{model}: load", unit="form")
        ]
        times = await item_times(served, rounds)
        graphs = graph_times(forms, rounds)
        rows = []
        for at, (form, one) in enumerate(zip(forms, served, strict=True)):
            own = [Measure(name, values[at], 3) for name, values in zip(_NAMES, times, strict=True)]
            own += [Measure(name, values[at], 3) for name, values in graphs.items()]
            own += [Measure("MB", form.megabytes, 2), *_parity(one)]
            if data is not None:
                own += await SUBJECTS[model].measure(one, data)
            rows.append(own)
        return rows


def _parity(served: Served) -> list[Measure]:
    parity = served.loaded.parity
    if parity is None:
        return []
    return [
        Measure("largest deviation from the goldens", parity.deviation, 4),
        Measure("moved by its neighbours in a batch", parity.batch_deviation, 6),
    ]


def table_of(forms: Sequence[Form], found: Sequence[Sequence[Measure]]) -> str:
    """Return a Markdown table: a row a form, a column a measure."""
    names = [one.name for one in found[0]]
    lines = [f"| | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    lines += [
        f"| {form.name} | {' | '.join(map(str, own))} |"
        for form, own in zip(forms, found, strict=True)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
