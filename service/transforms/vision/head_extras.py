"""What a head says of an object besides box, label and score: a mask, keypoints or an angle."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.transforms.vision.geometry import Placement
from service.transforms.vision.head_outputs import Dimensions, shown

_MAPS = 4
"""Axes of prototypes."""
_POINT = (2, 3)
"""Numbers of a keypoint: its place, and perhaps how likely it is visible."""


@dataclass(frozen=True, slots=True)
class Extras:
    """The numbers of a candidate after those of its box and scores, at most one of these."""

    prototypes: str | None = None
    """Output [B, k, height, width] of maps; the k numbers say how much of each is in a mask."""
    keypoints: tuple[int, int] | None = None
    """How many points, and the numbers of each: x, y, and perhaps visibility."""
    rotated: bool = False
    """One number: the angle of the box, in radians."""

    def __post_init__(self) -> None:
        if sum((self.prototypes is not None, self.keypoints is not None, self.rotated)) > 1:
            raise ValueError("say prototypes, keypoints or rotated, but not several of them")
        if self.keypoints is not None and (
            self.keypoints[0] < 1 or self.keypoints[1] not in _POINT
        ):
            raise ValueError("keypoints must be their number, and 2 or 3 numbers of each")

    def count(self, shapes: Mapping[str, Dimensions]) -> int | None:
        """Return how many numbers there are; None if the graph does not say.

        Args:
            shapes: of the graph's outputs.

        Raises:
            ValueError: the graph has no such prototypes.
        """
        if self.keypoints is not None:
            return self.keypoints[0] * self.keypoints[1]
        if self.prototypes is None:
            return int(self.rotated)
        if self.prototypes not in shapes:
            raise ValueError(
                f"the graph has no output {self.prototypes} for prototypes; it has "
                f"{', '.join(shapes)}"
            )
        shape = shapes[self.prototypes]
        if not shape:
            return None
        if len(shape) != _MAPS:
            raise ValueError(
                f"the output {self.prototypes} of shape {shown(shape)} is not prototypes, which "
                "are [B, k, height, width]"
            )
        return shape[1]

    def maps(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32] | None:
        """Return the prototypes of a batch, if there are any."""
        if self.prototypes is None:
            return None
        return outputs[self.prototypes].astype(np.float32, copy=False)


NO_EXTRAS: Final = Extras()


def extras_misfit(found: int, wanted: int | None) -> str | None:
    """Return why a candidate does not have these numbers after its box and scores, or None.

    Args:
        found: how many the graph gives.
        wanted: how many there must be; None means some.
    """
    if found == wanted or (wanted is None and found > 0):
        return None
    return (
        f"the graph gives {max(found, 0)} numbers after the box and the scores of each candidate; "
        f"there must be {'some' if wanted is None else wanted} for masks, keypoints or an angle"
    )


def points_to_original(
    numbers: NDArray[np.float32], keypoints: tuple[int, int], place: Placement
) -> NDArray[np.float32]:
    """Return keypoints [N, count, 2 or 3] of [N, numbers], moved to the image and within it."""
    points = numbers.reshape(len(numbers), *keypoints).copy()
    points[..., :2] -= (place.left, place.top)
    points[..., :2] /= (place.scale_x, place.scale_y)
    points[..., :2] = np.clip(points[..., :2], 0, (place.width, place.height))
    return points
