"""The trained layer as a file."""

from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.head import Head


@pytest.mark.parametrize("logit_range", [None, (-3.5, 12.25)])
def test_a_head_is_read_as_it_was_written(tmp_path: Path, logit_range):
    random = np.random.default_rng(0)
    weights = random.normal(size=(6, 3)).astype(np.float32)
    head = Head(weights, weights[0, :3].copy(), logit_range, ("ü", "b c", "🐶"), {"seed": 1})
    head.save(tmp_path / "head.npz")
    read = Head.load(tmp_path / "head.npz")
    assert read.logit_range == logit_range
    assert (read.classes, read.training) == (head.classes, head.training)
    assert read.weights.tobytes() == weights.tobytes()
    assert read.biases.tobytes() == head.biases.tobytes()
    read.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "head.npz").read_bytes()
