"""Add the class `none` to a classifier: how like the training photos an embedding is.

For the L2-normalized embedding x, with the subspace's axes A, the score of being known is
known = logistic(slope * (|A x|^2 - threshold)). The other classes' scores are multiplied by it, and
`none` gets 1 - known. All operators are quantized, and of versions that the runtimes of 2021 know.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.head import NONE, Gate
from edgetpu_retrain.tflite.l2_normalization import add_l2_normalization
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.quantized_layer import add_layer, range_quantization

# TFLite's quantized LOGISTIC requires this output scale.
_SCALE = 1 / 256
# Beyond it, a score is 0 or 255/256.
_MAX_LOGIT = 8.0
_MIN_SCALE = 1e-4


def add_gate(
    model: Model, embedding: int, scores: int, gate: Gate, classes: tuple[str, ...]
) -> int:
    """Adds a gate after all other operators.

    Args:
        model: the model to change.
        embedding: index of the embedding, [1, D] or [1, 1, 1, D], uint8 or int8.
        scores: index of the softmax scores [1, C] of the same dtype.
        gate: the gate for D-dimensional embeddings.
        classes: names of the C classes.

    Returns:
        The index of the scores [1, C + 1], `none` last; [1, C] if `none` is one of the classes.
    """
    return _Builder(model, embedding).add(scores, gate, classes)


class _Builder:
    """Adds the operators of a gate to a model."""

    def __init__(self, model: Model, embedding: int):
        self._model = model
        self._embedding = embedding
        self._dtype = model.tensor(embedding).dtype
        self._limits = np.iinfo(self._dtype)
        # The versions of elementwise operators differ only by the dtype.
        self._version = 1 if self._dtype == "uint8" else 2

    def add(self, scores: int, gate: Gate, classes: tuple[str, ...]) -> int:
        known = self._known(gate)
        # The largest score is 255/256 in place of 1, as after a softmax.
        most = self._constant("most", np.array([[self._limits.max]]), _SCALE, self._limits.min)
        none = self._score("none", 1)
        self._combine("SUB", most, known, none)
        count = self._model.tensor(scores).shape[1]
        gated = self._score("gated", count)
        self._combine("MUL", scores, known, gated)
        if NONE not in classes:
            result = self._score("scores", count + 1)
            options = schema.ConcatenationOptionsT()
            options.axis = 1
            self._operator("CONCATENATION", [gated, none], result, options)
            return result
        # Twice a half, because MUL takes no product of scales as large as the output's.
        one_hot = 2 * (np.array([classes]) == NONE)
        spread, result = self._score("spread", count), self._score("scores", count)
        self._combine("MUL", self._constant("one_hot", one_hot, 0.5, 0), none, spread)
        self._combine("ADD", gated, spread, result)
        return result

    def _known(self, gate: Gate) -> int:
        """Adds the operators from the embedding to the score of being known, [1, 1]."""
        unit = self._embedding
        if not self._is_normalized():
            unit = add_l2_normalization(self._model, unit, "head/none/l2_normalized")
        first, last = self._limits.min, self._limits.max
        low, high = gate.limits
        coordinates = add_layer(
            self._model,
            unit,
            gate.axes,
            np.zeros(gate.axes.shape[1], np.float32),
            "head/none/axes/coordinates",
            range_quantization(low, high, first, last, _MIN_SCALE),
        )
        shape = self._model.tensor(coordinates).shape
        squared = range_quantization(0, max(low**2, high**2), first, last, _MIN_SCALE)
        squares = self._model.add_tensor("head/none/squares", shape, self._dtype, *squared)
        self._combine("MUL", coordinates, coordinates, squares)
        logit = add_layer(
            self._model,
            squares,
            np.full((shape[1], 1), gate.slope, np.float32),
            np.array([-gate.slope * gate.threshold], np.float32),
            "head/none/energy/logit",
            range_quantization(-_MAX_LOGIT, _MAX_LOGIT, first, last, _MIN_SCALE),
        )
        known = self._score("known", 1)
        self._operator("LOGISTIC", [logit], known, None)
        return known

    def _is_normalized(self) -> bool:
        return any(
            operator.name == "L2_NORMALIZATION" and self._embedding in operator.outputs
            for operator in self._model.operators
        )

    def _score(self, name: str, count: int) -> int:
        return self._model.add_tensor(
            f"head/none/{name}", [1, count], self._dtype, _SCALE, self._limits.min
        )

    def _constant(self, name: str, values: np.ndarray, scale: float, zero_point: int) -> int:
        values = values.astype(self._dtype)
        return self._model.add_constant(f"head/none/{name}", values, scale, zero_point)

    def _combine(self, name: str, left: int, right: int, output: int) -> None:
        options = {
            "ADD": schema.AddOptionsT,
            "MUL": schema.MulOptionsT,
            "SUB": schema.SubOptionsT,
        }[name]()
        self._operator(name, [left, right], output, options)

    def _operator(self, name: str, inputs: list[int], output: int, options: object) -> None:
        self._model.add_operator(name, inputs, output, options, version=self._version)
