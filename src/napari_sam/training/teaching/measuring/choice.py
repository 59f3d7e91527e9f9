"""Choice: which weights between the base model and the last ones are kept, so that little else is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from napari_sam.models.nested_checkpoints import State
from napari_sam.training.teaching.measuring.held_back import LEAST_GAIN, Figures

# How far from the base model to the last weights. Further ones fit the user's objects more and forget more.
SHARES = (1.0, 0.8, 0.6, 0.4)
# The most that the score of the rehearsal may fall.
MOST_LOSS = 0.03


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Weights, and what they reach.

    Parameters
    ----------
    weights
        The weights.
    share
        How far they lie from the base model to the last ones.
    figures
        Of the held-back objects.
    others
        The score of the rehearsal.
    tried
        (share, score of the held-back objects, score of the rehearsal or None) of every share.
    knows_size
        Whether the weights hold the usual size of the objects.
    """

    weights: State
    share: float
    figures: Figures
    others: float
    tried: tuple[tuple[float, float, float | None], ...] = ()
    knows_size: bool = False


def choose(
    base: State,
    last: State,
    base_others: float,
    measure: Callable[[State, str], Figures],
    rehearse: Callable[[State, str], float],
) -> Choice:
    """Choose the share of the way with the largest gain on the held-back objects whose loss elsewhere is small enough.

    Where every share forgets more than 0.03, it is the one that forgets least.

    Parameters
    ----------
    base, last
        The weights of the base model and the last ones.
    base_others
        The score of the base model in the rehearsal.
    measure, rehearse
        Measure weights, under a name, on the held-back objects and in the rehearsal.
    """
    found = []
    for share in SHARES:
        weights = {key: torch.lerp(base[key].to(value), value, share) for key, value in last.items()}
        found.append((measure(weights, named(share)), share, weights))
    tried = dict[float, Choice]()
    # The rehearsal takes long, so the best shares come first.
    for figures, share, weights in sorted(found, key=lambda one: -one[0].score):
        others = rehearse(weights, named(share))
        tried[share] = Choice(weights, share, figures, others)
        if round(base_others - others, 4) <= MOST_LOSS:
            break
    else:
        share = max(tried, key=lambda one: tried[one].others)
    scores = [(one, each.score, tried[one].others if one in tried else None) for each, one, _ in found]
    return replace(tried[share], tried=tuple(scores))


def sized(
    choice: Choice,
    size: State,
    base_others: float,
    measure: Callable[[State, str], Figures],
    rehearse: Callable[[State, str], float],
) -> Choice:
    """Add the usual size of the objects where that is better for the held-back objects and loses little elsewhere.

    Parameters
    ----------
    choice
        What was chosen without it.
    size
        The entries of the weights that hold it; none where it is unknown.
    base_others, measure, rehearse
        See `choose`.
    """
    weights, name = {**choice.weights, **size}, f"{named(choice.share)}, sized"
    if not size or (figures := measure(weights, name)).score <= choice.figures.score + LEAST_GAIN:
        return choice
    others = rehearse(weights, name)
    if round(base_others - others, 4) > max(MOST_LOSS, round(base_others - choice.others, 4)):
        return choice
    return replace(choice, weights=weights, figures=figures, others=others, knows_size=True)


def named(share: float) -> str:
    """Return the name under which the weights at a share of the way are measured."""
    return f"taught at {share:g}"
