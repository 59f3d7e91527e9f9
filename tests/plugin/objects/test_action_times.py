"""Times of actions against a list of what was done."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from napari_sam.plugin.objects.action_times import ActionTimes


def make():
    return ActionTimes(SimpleNamespace(tick=itertools.count(1).__next__)), object()


@given(st.lists(st.sampled_from(["act", "act in vain", "undo", "undo in vain", "redo", "redo in vain"])))
def test_the_last_times_are_those_of_the_actions_that_hold(steps):
    times, journal = make()
    done, undone = [], []  # What holds, in the order in which it was done.
    for step in steps:
        before = times.last_done(journal), times.last_undone(journal)
        vain = step.endswith("vain")
        if step.startswith("act"):
            times.begin(journal)(not vain)
            if not vain:
                done.append(times.last_done(journal))
                undone.clear()
        elif step.startswith("undo") and done:
            fail = times.begin_undo(journal)
            if vain:
                fail()
            else:
                done.pop()
                undone.append(times.last_undone(journal))
        elif step.startswith("redo") and undone:
            fail = times.begin_redo(journal)
            if vain:
                fail()
            else:
                undone.pop()
                done.append(times.last_done(journal))
        if vain:
            assert (times.last_done(journal), times.last_undone(journal)) == before
        assert times.last_done(journal) == (done[-1] if done else 0)
        assert times.last_undone(journal) == (undone[-1] if undone else 0)


def test_commits_that_were_accepted_together_are_one_action_and_may_be_written_late():
    times, journal = make()
    times.note_commit(journal, 5)
    times.note_commit(journal, 5)
    times.note_commit(journal, 3)  # Accepted earlier, written later.
    assert times.last_done(journal) == 5
    times.begin_undo(journal)
    assert times.last_done(journal) == 3


def test_times_of_an_output_that_is_gone_are_dropped():
    times, journal = make()
    times.note_commit(journal, 5)
    times.keep_only([])
    assert times.last_done(journal) == 0
