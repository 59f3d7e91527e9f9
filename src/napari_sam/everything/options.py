"""FilterOptions and GridOptions: which of the proposed objects count, and how a grid of points is asked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from napari_sam.arguments import number, shown, whole
from napari_sam.errors import PromptError

MOST_OFFSET = 1000.0
SIZE_ADVICE = "give the smallest and the largest diameter in pixels, such as (10, 40)"


@dataclass(frozen=True, slots=True)
class FilterOptions:
    """Which proposals count as objects. Filtering needs no model, so it can be changed after a run.

    Parameters
    ----------
    confidence
        Lowest score, 0 to 1.
    stability_score_thresh
        Lowest stability score, 0 to 1.
    sizes
        (smallest, largest) diameter of the circle that has the object's area, in pixels of the finer axis. By default
        every size.
    min_solidity
        Lowest share of the area in that of the box's ellipse, 0 to 1: how compact the shape is.
    max_overlap
        Largest share of the smaller of two objects that both may cover, 0 to 1; beyond it the one with the lower score
        is left out.
    """

    confidence: float = 0.6
    stability_score_thresh: float = 0.0
    sizes: tuple[float, float] = (0.0, math.inf)
    min_solidity: float = 0.0
    max_overlap: float = 0.35

    @classmethod
    def of(
        cls,
        *,
        confidence: float | None = None,
        stability_score_thresh: float | None = None,
        sizes: object = None,
        min_solidity: float | None = None,
        max_overlap: float | None = None,
    ) -> FilterOptions:
        """Return checked options; None stands for the default.

        Raises
        ------
        PromptError
            A value is no number or outside its range.
        """
        given = {
            "confidence": confidence,
            "stability_score_thresh": stability_score_thresh,
            "min_solidity": min_solidity,
            "max_overlap": max_overlap,
        }
        shares = {
            name: number(value, f"The {name.replace('_', ' ')}", "give a number from 0 to 1", least=0, most=1)
            for name, value in given.items()
            if value is not None
        }
        options = cls(**shares)  # type: ignore[arg-type]
        return options if sizes is None else replace(options, sizes=checked_sizes(sizes))


@dataclass(frozen=True, slots=True)
class GridOptions:
    """The regular grid of points of a model without dense guesses, by the names of SAM's mask generator.

    Parameters
    ----------
    points_per_side
        Points along each side of a tile.
    pred_iou_thresh, stability_score_thresh
        Lowest predicted IoU and lowest stability score of a proposal.
    box_nms_thresh
        Largest IoU of the boxes of two proposals of one tile.
    crop_n_layers
        Number of finer levels that are asked too.
    min_mask_region_area
        Regions and holes of fewer pixels are removed.
    adaptive
        Whether points inside the smallest mask of an earlier point are not asked.
    stability_score_offset
        How far the logit of the border is moved both ways for the stability score.
    crop_overlap_ratio
        How far the tiles of the first finer level reach into each other, as a share of the image's side, when it has
        two tiles along it.
    crop_n_points_downscale_factor
        `points_per_side` is divided by this for each finer level.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    min_mask_region_area: int = 0
    adaptive: bool = True
    stability_score_offset: float = 1.0
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1

    def __post_init__(self) -> None:
        whole(self.points_per_side, "points_per_side", "give 1 to 256", least=1, most=256)
        whole(self.crop_n_layers, "crop_n_layers", "give 0 to 4", least=0, most=4)
        whole(self.crop_n_points_downscale_factor, "crop_n_points_downscale_factor", "give 1 to 16", least=1, most=16)
        whole(self.min_mask_region_area, "min_mask_region_area", "give a number of pixels", least=0, most=2**31)
        number(
            self.stability_score_offset, "stability_score_offset", "give a number from 0 on", least=0, most=MOST_OFFSET
        )
        for name in ("pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_overlap_ratio"):
            number(getattr(self, name), name, "give a number from 0 to 1", least=0, most=1)

    @property
    def tile_overlap(self) -> float:
        """The share of a tile that the next one reads too, up to a half."""
        # Two crops that share r of the side are (1 + r) / 2 of it long.
        return min(0.5, 2 * self.crop_overlap_ratio / (1 + self.crop_overlap_ratio))


def checked_sizes(sizes: object) -> tuple[float, float]:
    """Return the smallest and the largest diameter.

    Raises
    ------
    PromptError
        They are not two rising numbers from 0 on.
    """
    try:
        low, high = (float(value) for value in sizes)  # type: ignore[attr-defined]
    except (TypeError, ValueError) as error:
        raise PromptError(f"The sizes are {shown(sizes)}: {SIZE_ADVICE}.") from error
    if not 0 <= low < high:
        raise PromptError(f"The sizes are {shown(sizes)}: {SIZE_ADVICE}.")
    return low, high
