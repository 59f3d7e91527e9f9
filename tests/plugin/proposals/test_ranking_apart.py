"""Many proposals are ranked in a thread: the window goes on with the earlier ranking, and no answer is lost."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.proposals.playback import described_tile, query_of

from napari_sam.core.geometry import Plane
from napari_sam.everything.found import FoundObjects
from napari_sam.plugin.proposals import selection as selections
from napari_sam.plugin.proposals.found_planes import Decision, SimilarPlanes
from napari_sam.plugin.proposals.selection import ProposalSelection

TILE = described_tile(
    *[((8, 8 + 10 * i), 3, 0.8, -1.0 + 0.1 * i) for i in range(5)],
    *[((28, 8 + 10 * i), 3, 0.8, 1.0 - 0.1 * i) for i in range(5)],
)
PLANES = [Plane((1, 2), (0, 0, 0)), Plane((1, 2), (1, 0, 0))]


class Held:
    """Holds jobs until a test runs them."""

    def __init__(self) -> None:
        self.works: list = []

    def __call__(self, work) -> None:
        self.works.append(work)

    def run(self) -> None:
        work = self.works.pop(0)
        work.done(work.job(lambda _: None))


def ranked(count: int = 1) -> SimilarPlanes:
    parts = [FoundObjects(plane, TILE) for plane in PLANES[:count]]
    return SimilarPlanes(parts, query_of(TILE.descriptors[:1]))


@pytest.fixture
def held(monkeypatch) -> Held:
    monkeypatch.setattr(selections, "AT_ONCE", 5)
    return Held()


@pytest.mark.parametrize("count", [1, 2])
def test_answers_are_ranked_by_in_a_thread_as_they_would_be_at_once(held, count) -> None:
    apart, at_once = ProposalSelection(apart=held), ProposalSelection()
    for selection in (apart, at_once):
        selection.update(ranked(count))
    before = apart.found.scores.copy()
    numbers = [int(n) for n in at_once.similar.doubtful(at_once.options)[:3]]
    for at, number in enumerate(numbers):
        apart.decisions.decide(number, Decision(at != 1, ""))
        at_once.decisions.decide(number, Decision(at != 1, ""))
    np.testing.assert_array_equal(apart.found.scores, before, "nothing is ranked in the calling thread")
    assert apart.is_ranking
    assert len(held.works) == 1
    kept = {number for number in numbers if apart.decisions.by_number[number].keep}
    assert kept <= set(apart.kept), "what was decided shows at once"
    assert not (set(numbers) - kept) & set(apart.kept)
    held.run()
    held.run()  # The answers that came meanwhile.
    assert not apart.is_ranking
    assert not held.works
    np.testing.assert_allclose(apart.found.scores, at_once.found.scores, atol=1e-6)
    np.testing.assert_array_equal(apart.kept, at_once.kept)
    assert len(apart.learned) == len(at_once.similar.learned)


def test_the_review_goes_on_while_a_thread_ranks_and_asks_nothing_twice(held) -> None:
    selection = ProposalSelection(apart=held)
    selection.update(ranked())
    asked = []
    selection.next_doubtful()
    while selection.reviewed is not None and len(asked) < 20:
        asked.append(selection.reviewed)
        selection.judge(len(asked) % 2 == 0)
    assert len(set(asked)) == len(asked) > 3
    while held.works:
        held.run()
    assert len(selection.learned) == 1 + len(asked)


def test_an_undo_while_a_thread_ranks_takes_the_answer_out_again(held) -> None:
    selection = ProposalSelection(apart=held)
    selection.update(ranked())
    before = selection.found.scores.copy()
    selection.toggle(3)
    selection.decisions.undo()
    while held.works:
        held.run()
    np.testing.assert_allclose(selection.found.scores, before, atol=1e-6)
    assert len(selection.learned) == 1


def test_a_ranking_of_proposals_that_are_gone_is_dropped(held) -> None:
    selection = ProposalSelection(apart=held)
    selection.update(ranked())
    selection.toggle(3)
    selection.clear()
    held.run()
    assert selection.found is None
    assert not selection.is_ranking
    selection.update(ranked())
    selection.toggle(2)
    newer = ranked()
    selection.update(newer)  # A tile was added; the answers stay.
    held.run()
    assert selection.found is newer
    held.run()
    assert selection.found is not newer
    assert selection.similar.learned.is_answer.sum() == 1


def test_what_was_answered_last_counts_in_what_is_learned_and_accepted_before_it_is_ranked(held) -> None:
    selection = ProposalSelection(apart=held)
    selection.update(ranked())
    selection.toggle(3)
    assert len(selection.learned) == 2
    old = selection.found
    selection.settle()
    assert selection.found is not old
    assert selection.found.scores[3] == float(selection.decisions.by_number[3].keep)
    held.run()
    assert selection.found.scores[3] == float(selection.decisions.by_number[3].keep)


def test_an_error_of_a_ranking_is_told_and_the_next_answer_tries_again(held) -> None:
    told: list[Exception] = []
    selection = ProposalSelection(apart=held, failed=told.append)
    selection.update(ranked())
    selection.toggle(3)
    error = MemoryError("no memory")
    held.works.pop(0).failed(error)
    assert told == [error]
    selection.toggle(4)
    held.run()
    assert len(selection.similar.learned) == 3
