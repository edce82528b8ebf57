"""The last layers of a quantized network in TensorFlow, with a softmax layer behind them.

Every value is a real number on the grid that the .tflite file gives its tensor. Rounding lets
gradients through, the ends of a grid do not (straight-through estimator; Jacob et al., 2018:
Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference).
"""

import math
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgetpu_retrain.head import Head
from edgetpu_retrain.io import stderr
from edgetpu_retrain.tflite.layers import Grid, LastLayers, Layer, grid, read_weights
from edgetpu_retrain.tflite.model import Model

# TensorFlow sums in an order that depends on the number of threads, so the number is always this.
_THREADS = 2
# What TensorFlow prints when it is imported, whatever the log level.
_NOTICES = re.compile(rb"WARNING: All log messages before |I\d{4} .*oneDNN ")
# Share of the training in which the step grows from 0. Adam's first steps change all weights alike.
_WARM_UP = 0.1
# Adam (Kingma & Ba, 2015). The second decay rate is lower than in the paper, because gradients are
# tiny at first: the last layer is at its optimum.
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.97, 1e-8


def start_tensorflow() -> Any:
    """Imports TensorFlow, quiet and deterministic, and returns it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    with stderr.without(_NOTICES.match):
        import tensorflow

    if tensorflow.config.threading.get_intra_op_parallelism_threads() != _THREADS:
        tensorflow.config.threading.set_intra_op_parallelism_threads(_THREADS)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        tensorflow.config.experimental.enable_op_determinism()
    return tensorflow


class Network:
    """The last layers of an extractor and a softmax layer, to train both.

    Attributes:
        state: what changes in training, by name: variables and Adam's moments.
    """

    def __init__(
        self, model: Model, last: LastLayers, weights: np.ndarray, biases: np.ndarray, step: float
    ) -> None:
        """Builds the network.

        Args:
            model: the extractor.
            last: its last layers, as `layers.last_layers` describes them.
            weights: [D, C] float32, weights of the softmax layer at the start.
            biases: [C] float32, its biases.
            step: step of Adam at the start, in units of the grid of each layer's weights.
        """
        self._tf = tf = start_tensorflow()
        self._last = last
        self._input_grid = grid(model, last.boundary)
        self._grids: dict[str, Grid] = {}
        self._steps: dict[str, np.ndarray] = {}
        self._constants: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        parameters: dict[str, np.ndarray] = {}
        for i, layer in enumerate(last.layers):
            if layer.weights is None:
                continue
            values, sums, weights_grid = read_weights(model, layer)
            if i not in last.trained:
                self._constants[i] = values, sums
                continue
            scale = weights_grid.scale
            self._grids[f"{i}.weights"] = weights_grid
            parameters |= {f"{i}.weights": values, f"{i}.biases": sums}
            is_depthwise = layer.operator == "DEPTHWISE_CONV_2D" and len(scale) > 1
            self._steps[f"{i}.weights"] = step * (scale[:, np.newaxis] if is_depthwise else scale)
            self._steps[f"{i}.biases"] = step * scale
        parameters |= {"head.weights": weights, "head.biases": biases}
        # The softmax layer is quantized to 255 steps later.
        head_step = np.asarray(step * 2 * np.abs(weights).max(initial=1e-6) / 255, np.float32)
        self._steps |= {"head.weights": head_step, "head.biases": head_step}
        self.state = {name: tf.Variable(value) for name, value in parameters.items()}
        self._trained = list(parameters)
        for name in self._trained:
            for moment in ("first", "second"):
                zeros = np.zeros_like(parameters[name])
                self.state[f"{name}.{moment}"] = tf.Variable(zeros)
        self.state["updates"] = tf.Variable(0.0)
        self._step = tf.function(self._take_step, reduce_retracing=True)
        self._predict = tf.function(self._logits, reduce_retracing=True)

    def train(self, values: np.ndarray, labels: np.ndarray, progress: float) -> float:
        """Takes one step on a batch.

        Args:
            values: [B, ...] integers of the boundary tensor.
            labels: [B] int, classes.
            progress: share of the training that is done, from 0 to 1.

        Returns:
            The mean cross-entropy of the batch before the step.
        """
        rate = 0.5 * (1 + math.cos(math.pi * progress)) * min(1.0, progress / _WARM_UP)
        return float(self._step(values, labels, np.float32(rate)))

    def logits(self, values: np.ndarray) -> np.ndarray:
        """Returns the logits [B, C] float32 for integers [B, ...] of the boundary tensor."""
        return np.asarray(self._predict(values))

    def layers(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Returns the trained real weights and biases by index of the layer in `LastLayers`."""
        return {
            i: (self.state[f"{i}.weights"].numpy(), self.state[f"{i}.biases"].numpy())
            for i in self._last.trained
        }

    def head(self) -> Head:
        """Returns the softmax layer."""
        weights, biases = self.state["head.weights"], self.state["head.biases"]
        return Head(weights.numpy(), biases.numpy(), None)

    def save(self) -> dict[str, np.ndarray]:
        """Returns a copy of the state."""
        return {name: variable.numpy() for name, variable in self.state.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over a state that `save` returned."""
        for name, variable in self.state.items():
            variable.assign(state[name])

    def _take_step(self, values: Any, labels: Any, rate: Any) -> Any:
        tf = self._tf
        variables = [self.state[name] for name in self._trained]
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self._logits(values))
            loss = tf.reduce_mean(losses)
        updates = self.state["updates"].assign_add(1.0)
        correction = tf.sqrt(1 - _BETA_2**updates) / (1 - _BETA_1**updates)
        gradients = tape.gradient(loss, variables)
        for name, variable, gradient in zip(self._trained, variables, gradients, strict=True):
            first, second = self.state[f"{name}.first"], self.state[f"{name}.second"]
            first.assign(_BETA_1 * first + (1 - _BETA_1) * gradient)
            second.assign(_BETA_2 * second + (1 - _BETA_2) * gradient**2)
            change = rate * correction * self._steps[name] * first / (tf.sqrt(second) + _EPSILON)
            variable.assign(self._within_grid(name, variable - change))
        return loss

    def _within_grid(self, name: str, values: Any) -> Any:
        """Returns weights clipped to the ends of their grid, from which they could not return."""
        if name not in self._grids:
            return values
        low, high = self._grids[name].smallest, self._grids[name].largest
        if values.shape[-1] == 1:
            low, high = low[:, np.newaxis], high[:, np.newaxis]
        return self._tf.clip_by_value(values, low, high)

    def _logits(self, values: Any) -> Any:
        tf = self._tf
        zero_point = np.float32(self._input_grid.zero_point)
        boundary = (tf.cast(values, tf.float32) - zero_point) * self._input_grid.scale
        computed = {self._last.boundary: boundary}
        for i, layer in enumerate(self._last.layers):
            inputs = [computed[index] for index in layer.inputs]
            result = self._compute(i, layer, inputs)
            low, high = layer.bounds
            if np.isfinite(low) or np.isfinite(high):
                result = tf.clip_by_value(result, low, high)
            computed[layer.output] = self._round(result, layer.output_grid)
        embeddings = tf.reshape(computed[self._last.layers[-1].output], [len(values), -1])
        return embeddings @ self.state["head.weights"] + self.state["head.biases"]

    def _compute(self, number: int, layer: Layer, inputs: list[Any]) -> Any:
        """Returns what a layer computes before its activation function and rounding."""
        tf = self._tf
        first, strides = inputs[0], [1, *layer.strides, 1]
        window = [1, *layer.window, 1]
        if layer.weights is not None:
            weights, biases = self._weights(number)
            if layer.operator == "CONV_2D":
                return tf.nn.conv2d(first, weights, strides, layer.padding) + biases
            if layer.operator == "DEPTHWISE_CONV_2D":
                return tf.nn.depthwise_conv2d(first, weights, strides, layer.padding) + biases
            return tf.reshape(first, [-1, weights.shape[0]]) @ weights + biases
        if layer.operator == "AVERAGE_POOL_2D":
            return tf.nn.avg_pool2d(first, window, strides, layer.padding)
        if layer.operator == "MAX_POOL_2D":
            return tf.nn.max_pool2d(first, window, strides, layer.padding)
        if layer.operator == "ADD":
            return inputs[0] + inputs[1]
        if layer.operator == "CONCATENATION":
            return tf.concat(inputs, layer.axes[0])
        if layer.operator == "MEAN":
            return tf.reshape(tf.reduce_mean(first, layer.axes), [-1, *layer.shape[1:]])
        if layer.operator == "PAD":
            return tf.pad(first, layer.paddings)
        if layer.operator == "RESHAPE":
            return tf.reshape(first, [-1, *layer.shape[1:]])
        return first  # QUANTIZE: its output has another grid.

    def _weights(self, number: int) -> tuple[Any, Any]:
        if number in self._constants:
            return self._constants[number]
        name = f"{number}.weights"
        weights = self._round(self.state[name], self._grids[name])
        return weights, self.state[f"{number}.biases"]

    def _round(self, values: Any, target: Grid) -> Any:
        """Rounds real values to a grid, with the gradient of clipping to its ends."""
        tf = self._tf
        low, high = target.smallest, target.largest
        if len(low) == 1:
            return tf.quantization.fake_quant_with_min_max_args(
                values, float(low[0]), float(high[0]), narrow_range=target.high - target.low < 255
            )
        shape = values.shape
        # The function wants channels last; a depthwise layer's are next to last.
        flat = values[..., 0] if shape[-1] == 1 else values
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            flat, low, high, narrow_range=target.high - target.low < 255
        )
        return tf.reshape(rounded, shape)
