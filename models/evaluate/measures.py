"""What an evaluation reports, and the tables it is reported in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measure:
    """A named number, and how many decimals of it mean something."""

    name: str
    value: float
    decimals: int = 4

    def __str__(self) -> str:
        return f"{self.value:.{self.decimals}f}"


def markdown_table(by_precision: Mapping[str, Sequence[Measure]]) -> str:
    """Return a table with one row a measure and one column a precision.

    Raises:
        ValueError: if the precisions do not hold the same measures in the same order.
    """
    columns = list(by_precision.values())
    names = [[measure.name for measure in column] for column in columns]
    if any(column != names[0] for column in names):
        raise ValueError(f"the precisions were measured differently: {names}")
    head = "| measure | " + " | ".join(by_precision) + " |"
    rule = "| --- |" + " ---: |" * len(columns)
    rows = (
        f"| {row[0].name} | " + " | ".join(map(str, row)) + " |"
        for row in zip(*columns, strict=True)
    )
    return "\n".join([head, rule, *rows])
