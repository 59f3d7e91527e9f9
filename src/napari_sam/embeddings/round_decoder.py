"""RoundDecoder: decode the prompts of one object round by round, on the tiles that suit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from napari_sam.core.candidates import AnswerCache, Candidates
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, mask_from_logits, merge_correction
from napari_sam.core.prompts import Prompts, TilePrompts, logits_on
from napari_sam.core.tile_search import TileSearch
from napari_sam.core.tiles import Tile
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import PromptError

# From this prompt on, a correction changes only what is connected to its points.
FIRST_MERGED_PROMPT = 3


class RoundDecoder:
    """Decode prompts on the tiles of a volume.

    Parameters
    ----------
    encoder
        Gives the embeddings of tiles, and knows the predictor that decodes them.
    """

    def __init__(self, encoder: TileEncoder) -> None:
        self._encoder, self._predictor, self._volume = encoder, encoder.predictor, encoder.volume
        self._answers = AnswerCache()

    def answer_rounds(self, plane: Plane, prompts: Prompts, downsample: float | None = None) -> Candidates:
        """Return the answer to the last round of prompts, decoding those rounds that follow the last known answer.

        Parameters
        ----------
        plane
            The plane of the prompts.
        prompts
            The prompts of one object; see `Prompts.steps` for the rounds.
        downsample
            Image pixels for each pixel of the screen, or None.

        Raises
        ------
        PromptError
            A lone point lies where the image has no data.
        ImageError
            A tile cannot be read.
        """
        rounds = [((plane, step.key, downsample), step) for step in prompts.steps()]
        stored = ((at, self._answers.get(key)) for at, (key, _) in reversed(list(enumerate(rounds))))
        at, answer = next(((at, found) for at, found in stored if found is not None), (-1, None))
        for key, step in rounds[at + 1 :]:
            answer = self.answer(plane, step, answer.best if answer else None, downsample)
            self._answers.put(key, answer)
        assert answer is not None
        return answer

    def answer(
        self, plane: Plane, prompts: Prompts, previous: Mask | None = None, downsample: float | None = None
    ) -> Candidates:
        """Return the answer to one round of prompts, on the tile that suits the object.

        Parameters
        ----------
        plane, prompts, downsample
            As in `answer_rounds`.
        previous
            The mask of the round before, or None.

        Raises
        ------
        PromptError, ImageError
            As in `answer_rounds`.
        """
        search = self.search(plane, prompts, previous, downsample=downsample)
        # The tiles of several levels lie over each other: one request instead of one for each.
        tiles = [tile for tile in search.first_tiles if not self._encoder.is_ready(plane, tile)]
        if len(tiles) > 1:
            self._volume.read_ahead(plane, tiles)
        if search.is_probing:
            self._check_value(plane, min(search.first_tiles, key=lambda tile: tile.level), prompts)
        while (step := search.next_step()) is not None:
            search.tell(step, self.decode(plane, step.tile, prompts, step.previous))
        assert search.found is not None
        return replace(_merged(search.found, prompts, previous), downsample=downsample)

    def search(
        self,
        plane: Plane,
        prompts: Prompts,
        previous: Mask | None = None,
        *,
        downsample: float | None = None,
        start_level: int | None = None,
        may_decode: Callable[[Tile], bool] | None = None,
    ) -> TileSearch:
        """Return the search for the tile that suits one round of prompts, for callers that decode it step by step.

        Parameters
        ----------
        plane
            The plane of the prompts.
        prompts, previous, downsample, start_level, may_decode
            See `TileSearch`.
        """
        return TileSearch(
            self._encoder.grid(plane),
            self._predictor,
            prompts,
            previous,
            downsample=downsample,
            start_level=start_level,
            pixels_of=lambda tile: self._volume.pixels_for(plane, tile),
            may_decode=may_decode,
        )

    def decode(self, plane: Plane, tile: Tile, prompts: Prompts, previous: Mask | None = None) -> Candidates:
        """Decode one round of prompts on one tile, which is encoded if it was not yet.

        Parameters
        ----------
        plane, tile
            Tile to decode on.
        prompts
            The prompts; of the points, those inside the tile count.
        previous
            The mask whose logits are given to the decoder, or None.

        Raises
        ------
        ImageError
            The tile cannot be read.
        """
        decoded = self._predictor.decode(self._encoder.embedding(plane, tile), TilePrompts.on(tile, prompts, previous))
        masks = [
            mask_from_logits(logits, tile, float(iou))
            for logits, iou in zip(decoded.logits, decoded.iou_prediction, strict=True)
        ]
        order = sorted(range(len(masks)), key=lambda i: masks[i].area)
        best = order.index(int(np.argmax(decoded.iou_prediction)))
        kept = None if decoded.features is None else decoded.reordered(order)
        return Candidates(tuple(masks[i] for i in order), best, plane, prompts, decoded=kept)

    def forget(self) -> None:
        """Forget the answers to earlier rounds, because the image has changed."""
        self._answers.clear()

    def _check_value(self, plane: Plane, tile: Tile, prompts: Prompts) -> None:
        """Refuse a single point where the image has no data.

        Raises
        ------
        PromptError
            The pixel of the point is not finite, or has the value that stands for no data.
        """
        if not self._volume.may_hold_nothing:
            return
        point = prompts.positive[0]
        pixels, origin, size = self._volume.read_tile(plane, tile)
        at = [int((p + 0.5 - start) / step) for p, start, step in zip(point, origin, size, strict=True)]
        row, col = (min(max(i, 0), n - 1) for i, n in zip(at, pixels.shape, strict=False))
        if not np.isfinite(pixels[row, col]).any():
            raise PromptError(f"The image holds no data at ({point[0]:g}, {point[1]:g}): click where it does.")


def _merged(answer: Candidates, prompts: Prompts, previous: Mask | None) -> Candidates:
    """Let a correction change the earlier mask only around its points; see `merge_correction`.

    The second prompt may change all: it often says that the first one meant a part, or the whole.
    """
    count = len(prompts.points) + (prompts.box is not None)
    if previous is None or count < FIRST_MERGED_PROMPT:
        return answer
    merged = [_merged_mask(previous, mask, prompts) for mask in answer.masks]
    order = sorted(range(len(merged)), key=lambda i: merged[i].area)
    return replace(answer, masks=tuple(merged[i] for i in order), best_index=order.index(answer.best_index))


def _merged_mask(previous: Mask, answer: Mask, prompts: Prompts) -> Mask:
    merged = merge_correction(previous, answer, prompts.points, prompts.labels)
    if merged is answer or merged.tile is None or answer.low_res_logits is None:
        return merged
    # The next round gets these logits; where a change was refused, they are those of the earlier mask.
    inside = logits_on(merged.tile, replace(merged, low_res_logits=None)) > 0
    is_kept = (answer.low_res_logits > 0) == inside
    logits = np.where(is_kept, answer.low_res_logits, logits_on(merged.tile, previous))
    return replace(merged, low_res_logits=logits.astype(np.float32))
