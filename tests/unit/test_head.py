"""The trained layer as a file."""

from pathlib import Path

import numpy as np
import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Gate, Head


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


@pytest.mark.parametrize(
    "classes", [("ü", "b c", "🐶", "none"), ("ü", "none", "🐶"), ("a", "b", "none")]
)
def test_a_head_with_a_gate_is_read_as_it_was_written(tmp_path: Path, classes):
    random = np.random.default_rng(0)
    weights = random.normal(size=(6, 3)).astype(np.float32)
    gate = Gate(weights[:, :2].copy(), 0.5, 12.5, (-0.75, 1.0))
    head = Head(weights, weights[0, :3].copy(), None, classes, gate=gate)
    head.save(tmp_path / "head.npz")
    read = Head.load(tmp_path / "head.npz")
    assert read.classes == classes
    assert read.gate.axes.tobytes() == gate.axes.tobytes()
    assert (read.gate.threshold, read.gate.slope, read.gate.limits) == (0.5, 12.5, (-0.75, 1.0))
    embeddings = random.normal(size=(4, 6)).astype(np.float32)
    assert np.array_equal(read.scores(embeddings), head.scores(embeddings))
    np.testing.assert_allclose(read.scores(embeddings).sum(axis=1), 1, atol=1e-6)
    # The same arrays with a class too many.
    with np.load(tmp_path / "head.npz") as arrays:
        np.savez(tmp_path / "wrong.npz", **{**arrays, "classes": np.array(["x", *classes, "none"])})
    with pytest.raises(UserError, match=r"wrong\.npz"):
        Head.load(tmp_path / "wrong.npz")
