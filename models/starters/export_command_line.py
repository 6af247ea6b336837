"""What every export recipe is asked on the command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """A checkpoint, the data sets it was trained on, and the folder of the version to write."""

    checkpoint: Path
    data: Path
    to: Path


def read_export_request(description: str | None) -> ExportRequest:
    """Read `--checkpoint`, `--data` and `--to`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder a training wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--to", type=Path, required=True, help="models/repository/NAME/VERSION")
    arguments = parser.parse_args()
    return ExportRequest(arguments.checkpoint, arguments.data, arguments.to)
