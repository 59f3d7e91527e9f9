"""Candidates: the three answers to one set of prompts, and a cache of recent answers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from napari_sam.arguments import shown
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Decoded
from napari_sam.core.prompt_checks import check_mask
from napari_sam.core.prompts import Prompts
from napari_sam.errors import PromptError

CandidateName = Literal["best", "small", "medium", "large"]
CANDIDATE_NAMES: tuple[CandidateName, ...] = ("best", "small", "medium", "large")

ANSWERS_KEPT = 64
# Pixels of all cached masks: an object that fills a large image takes a gigabyte.
MAX_ANSWER_BYTES = 2**29


@dataclass(frozen=True, slots=True, eq=False)
class Candidates(Sequence[Mask]):
    """The three answers to one set of prompts, ordered small to large.

    Parameters
    ----------
    masks
        Three masks by rising area; each carries its `iou_prediction` and `stability_score`.
    best_index
        Which of them has the highest predicted IoU.
    plane
        The plane that they lie in.
    prompts
        What they answer, where that is known.
    downsample
        How many pixels of the image one pixel of the screen showed, if there was a screen.
    decoded
        The decoder's answer that they were made from, in their order, where it can be scored (`ScoringPredictor`).
    """

    masks: tuple[Mask, ...]
    best_index: int
    plane: Plane
    prompts: Prompts | None = None
    downsample: float | None = None
    decoded: Decoded | None = field(default=None, repr=False)

    @overload
    def __getitem__(self, index: int) -> Mask: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Mask, ...]: ...

    def __getitem__(self, index: int | slice) -> Mask | tuple[Mask, ...]:
        return self.masks[index]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def best(self) -> Mask:
        """The mask with the highest predicted IoU."""
        return self.masks[self.best_index]

    def scored(self, scores: NDArray[np.float32]) -> Candidates:
        """Return the same masks with other predicted IoUs, and so perhaps another best one."""
        masks = [replace(mask, iou_prediction=float(score)) for mask, score in zip(self.masks, scores, strict=True)]
        return replace(self, masks=tuple(masks), best_index=int(np.argmax(scores)))

    def named(self, name: CandidateName) -> Mask:
        """Return the candidate called "best", "small", "medium" or "large"."""
        if not (isinstance(name, str) and name in CANDIDATE_NAMES):
            raise PromptError(f"There is no candidate called {shown(name)}: use {', '.join(CANDIDATE_NAMES)}.")
        return self.best if name == "best" else self.masks[CANDIDATE_NAMES.index(name) - 1]

    def name_of(self, mask: Mask) -> CandidateName | None:
        """Return the name of one of the masks, "best" for the best one, or None for any other mask."""
        if mask is self.best:
            return "best"
        return next((CANDIDATE_NAMES[i + 1] for i, known in enumerate(self.masks) if known is mask), None)


def best_of(answer: Mask | Candidates | None) -> Mask | None:
    """Return an earlier answer as a mask: of candidates the best one.

    Raises
    ------
    PromptError
        It is neither a mask nor candidates, or a mask whose pixels do not fit its box.
    """
    if isinstance(answer, Candidates):
        return answer.best
    if not (answer is None or isinstance(answer, Mask)):
        raise PromptError(f"The earlier answer must be a mask or candidates and is {shown(answer)}: correct it.")
    if answer is not None:
        check_mask(answer)
    return answer


class AnswerCache:
    """Cache of the answers of recent rounds; the oldest is removed first.

    The newest answer always stays. Of the others, as many stay as fit into `ANSWERS_KEPT` and `MAX_ANSWER_BYTES`.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[Hashable, Candidates] = OrderedDict()
        self._nbytes = 0

    def get(self, key: Hashable) -> Candidates | None:
        """Return the answer of a key, and mark it as the newest; or None."""
        found = self._answers.get(key)
        if found is not None:
            self._answers.move_to_end(key)
        return found

    def put(self, key: Hashable, answer: Candidates) -> None:
        """Store an answer."""
        replaced = self._answers.pop(key, None)
        self._nbytes += _nbytes(answer) - (0 if replaced is None else _nbytes(replaced))
        self._answers[key] = answer
        while len(self._answers) > ANSWERS_KEPT or (self._nbytes > MAX_ANSWER_BYTES and len(self._answers) > 1):
            _, dropped = self._answers.popitem(last=False)
            self._nbytes -= _nbytes(dropped)

    def clear(self) -> None:
        """Remove all answers."""
        self._answers.clear()
        self._nbytes = 0

    def __reversed__(self) -> Iterator[Candidates]:
        """Iterate over the answers, the newest first."""
        return reversed(self._answers.values())


def _nbytes(answer: Candidates) -> int:
    return sum(mask.pixels.nbytes for mask in answer.masks)
