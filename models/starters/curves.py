"""Training curves as a PNG: what the loss and the metrics did, to be looked at by a person."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no display is needed to train
from matplotlib import pyplot as plt

CURVES = Path(__file__).with_name("curves")


@dataclass(slots=True)
class Curves:
    """Values recorded while training, by panel and line: `record(step, loss={"train": 0.4})`."""

    title: str
    panels: dict[str, dict[str, list[tuple[float, float]]]] = field(default_factory=dict)

    def record(self, step: float, **values: Mapping[str, float]) -> None:
        """Add one point to the named lines of the named panels."""
        for panel, lines in values.items():
            for line, value in lines.items():
                self.panels.setdefault(panel, {}).setdefault(line, []).append((step, value))

    def last(self, panel: str, line: str) -> float:
        """Return the newest value of a line.

        Raises:
            KeyError: if nothing was recorded under that panel and line.
        """
        return self.panels[panel][line][-1][1]

    def steps(self) -> int:
        """Return the last step that anything was recorded at; 0 before."""
        lines = [line for panel in self.panels.values() for line in panel.values()]
        return int(max((points[-1][0] for points in lines), default=0))

    def draw(self, path: Path, xlabel: str = "step") -> None:
        """Write all panels side by side into one PNG of modest size."""
        width = max(1, len(self.panels))
        figure, axes = plt.subplots(1, width, figsize=(5 * width, 3.6), squeeze=False)
        for axis, (panel, lines) in zip(axes[0], self.panels.items(), strict=False):
            for line, points in lines.items():
                axis.plot(*zip(*points, strict=True), label=line, linewidth=1.2)
            axis.set(title=panel.replace("_", " "), xlabel=xlabel)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8)
        figure.suptitle(self.title)
        figure.tight_layout()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=80)
        plt.close(figure)
