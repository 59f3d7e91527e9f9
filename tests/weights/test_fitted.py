"""Fitted values: a missing or damaged file ends in one sentence."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.errors import ModelError
from napari_sam.weights.fitted import fitted_values


def test_arrays_are_read_by_their_names(tmp_path):
    np.savez(tmp_path / "fitted.npz", **{"axes 4/8": np.arange(6.0).reshape(2, 3)})
    ((name, values),) = fitted_values(tmp_path / "fitted.npz").items()
    assert name == "axes 4/8"
    np.testing.assert_array_equal(values, [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_missing_or_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "fitted.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"fitted\.npz is missing or damaged: install napari-sam again\.$"):
        fitted_values(path)
