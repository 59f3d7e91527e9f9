"""Operations: which random steps a session takes, how often, and what each needs first."""

from __future__ import annotations

from hypothesis import strategies as st

places = st.tuples(st.floats(0, 0.999), st.floats(0, 0.999))
which = st.integers(0, 11)
signs = st.sampled_from([1, 1, 1, 0])

SEVERAL = ("click", "begin_another_object", "click")
# Each operation as often as it is to happen: what it needs, what is chosen for it.
PLAN: list = []
STRIDE = 37  # Through the plan.
NEEDS: dict = {}
BEFORE: dict = {}
CHOICES: dict = {}


def operation(weight, needs=lambda _: True, before=("click_and_accept",), **choices):
    """Make a method one of the random operations; `before` are those to be done where it is not possible yet."""

    def known(method):
        name = method.__name__
        PLAN.extend([name] * weight)
        NEEDS[name], BEFORE[name], CHOICES[name] = needs, before, choices
        return method

    return known


def has_points(self):
    return bool(self.prompting.points)


def has_points_of_others(self):
    present = self.prompting.present
    return any(point.of in present.pending for point in present.points)


def has_several_open(self):
    pending, kept = self.controller.session.drafts.pending, self.controller.objects.journal
    answered = all(each.is_answered and self.controller.session.mask_of(each).area for each in pending)
    return bool(pending) and answered and kept is not None and kept.layer is self.controller.session.target


def has_only_objects(self):
    prompting = self.prompting
    return has_objects(self) and not (prompting.past or prompting.future or prompting.is_begun)


def has_shapes(self):
    return bool(self.prompting.shapes)


def has_objects(self):
    return self.mine[1] is not None and bool(self.mine[1].state.objects)
