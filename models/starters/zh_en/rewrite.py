"""Rewrites the graphs of a version of `zh-en` from the weights in its own fp32 graphs.

For when the graphs are written better than before and the checkpoint is not at hand. Nothing else
of the version changes: the goldens are still what PyTorch answered.

    python -m models.starters.zh_en.rewrite models/repository/zh-en/1
    python -m models.evaluate --data DIR --models zh-en --write-cards
"""

import argparse
from pathlib import Path

from models.starters.zh_en.export import MAX_SOURCE_LENGTH, SEARCH, write_graphs
from models.starters.zh_en.graph_weights import weights_of_graphs


def main() -> None:
    """Read the version's graphs, then write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", type=Path, help="folder with the graphs")
    folder: Path = parser.parse_args().version
    write_graphs(weights_of_graphs(folder, MAX_SOURCE_LENGTH, SEARCH.max_new_tokens), folder)


if __name__ == "__main__":
    main()
