"""Fixtures of the tests of images."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(0).integers(1, 60000, (300, 420)).astype(np.uint16)
