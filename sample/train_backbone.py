"""Rebuilds the demo's backbone: a small quantization-aware MobileNet v1, as a frozen graph.

The network is trained on drawn kinds that the demo does not classify, first in floating point
with batch normalization, then with the normalization folded into the convolutions and every
weight and activation passing through the rounding it will meet as uint8.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from drawing import compose_photo
from pretraining_kinds import PRETRAINING_KINDS

SIZE = 96
PHOTO_SIZE = 144
PHOTOS_PER_KIND = 160
TEST_PHOTOS_PER_KIND = 16
BATCH = 32
FLOAT_EPOCHS = 60
QUANTIZED_EPOCHS = 3
FLOAT_RATE = 2e-3
QUANTIZED_RATE = 2e-4
BN_MOMENTUM = 0.97
BN_EPSILON = 1e-3
CHANNELS = (16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
BODY = "MobilenetV1/MobilenetV1"
POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"
LOGITS = "MobilenetV1/Logits/Conv2d_1c_1x1"
PREDICTIONS = "MobilenetV1/Predictions/Reshape_1"

Range = tuple[tf.Tensor, tf.Tensor]


@dataclass(frozen=True)
class Layer:
    """A convolution: its scope in the graph, stride, kernel and whether it is depthwise."""

    name: str
    stride: int
    shape: tuple[int, int, int, int]
    depthwise: bool = False

    @property
    def channels(self) -> int:
        """The number of output channels."""
        return self.shape[2] if self.depthwise else self.shape[3]

    def initial_weights(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draws He-normal weights [height, width, in, out or 1]."""
        fan_in = self.shape[0] * self.shape[1] * (1 if self.depthwise else self.shape[2])
        return rng.normal(0, np.sqrt(2 / fan_in), self.shape).astype(np.float32)

    def convolve(self, x: tf.Tensor, weights: tf.Tensor, name: str | None = None) -> tf.Tensor:
        """Applies the kernel to [N, height, width, in] with SAME padding."""
        strides = [1, self.stride, self.stride, 1]
        if self.depthwise:
            return tf.raw_ops.DepthwiseConv2dNative(
                input=x, filter=weights, strides=strides, padding="SAME", name=name
            )
        return tf.nn.conv2d(x, weights, strides, "SAME", name=name)


def body_layers() -> list[Layer]:
    """Lists the 27 convolutions before the pool."""
    layers = [Layer(f"{BODY}/Conv2d_0", 2, (3, 3, 3, 8))]
    inputs = 8
    for index, (channels, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True), 1):
        name = f"{BODY}/Conv2d_{index}"
        layers.append(Layer(f"{name}_depthwise", stride, (3, 3, inputs, 1), True))
        layers.append(Layer(f"{name}_pointwise", 1, (1, 1, inputs, channels)))
        inputs = channels
    return layers


def draw_kind(kind: str, index: int) -> NDArray[np.uint8]:
    """Draws photo number `index` of a kind, [PHOTO_SIZE, PHOTO_SIZE, 3]."""
    rng = np.random.default_rng((list(PRETRAINING_KINDS).index(kind), index))
    return np.asarray(compose_photo(PRETRAINING_KINDS[kind], rng, (PHOTO_SIZE, PHOTO_SIZE)))


def draw_photos(first: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Draws photos [N, PHOTO_SIZE, PHOTO_SIZE, 3] of every kind and their labels [N]."""
    kinds = [kind for kind in PRETRAINING_KINDS for _ in range(count)]
    indices = list(range(first, first + count)) * len(PRETRAINING_KINDS)
    # TensorFlow's threads do not survive a fork.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        photos = np.stack(list(pool.map(draw_kind, kinds, indices, chunksize=64)))
    return photos, np.repeat(np.arange(len(PRETRAINING_KINDS), dtype=np.int32), count)


def nearest(start: float, length: float) -> NDArray[np.int64]:
    """Returns the SIZE pixel positions a nearest-neighbour resize takes from start to its end."""
    return (start + (np.arange(SIZE) + 0.5) * length / SIZE).astype(int)


def normalize(pixels: tf.Tensor) -> tf.Tensor:
    """Maps 0..255 to -1..127/128."""
    return (tf.cast(pixels, tf.float32) - 128) / 128


def augment(photo: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Crops, flips and recolours a photo, and stretches it to [SIZE, SIZE, 3]."""
    length = PHOTO_SIZE * rng.uniform(0.78, 1.0, 2)
    rows, columns = (nearest(rng.uniform(0, PHOTO_SIZE - side), side) for side in length)
    if rng.random() < 0.5:
        columns = columns[::-1]
    crop = photo[rows[:, None], columns]
    gain, offset = rng.uniform(0.8, 1.2) * rng.normal(1, 0.06, 3), rng.normal(0, 12)
    table = np.arange(256)[:, None] * gain + offset
    table = table.clip(0, 255).astype(np.uint8)
    return np.stack([table[crop[..., channel], channel] for channel in range(3)], axis=-1)


def batches(
    photos: NDArray[np.uint8], labels: NDArray[np.int32], rng: np.random.Generator
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields one epoch of augmented batches: images [BATCH, SIZE, SIZE, 3] and labels."""
    order = rng.permutation(len(photos))[: len(photos) // BATCH * BATCH].reshape(-1, BATCH)

    def make(chosen: NDArray[np.int64]) -> tuple[tf.Tensor, tf.Tensor]:
        images = np.stack([augment(photo, rng) for photo in photos[chosen]])
        return tf.constant(images), tf.constant(labels[chosen])

    # One thread, so that the random numbers are drawn in the same order every time.
    with ThreadPoolExecutor(1) as pool:
        yield from pool.map(make, order)


class Network:
    """The variables of the network, and how it maps images to logits.

    Attributes:
        weights: kernels of the body, then of the classifier.
        biases: the classifier's only, until `fold` gives every layer its own.
    """

    def __init__(self, classes: int, rng: np.random.Generator) -> None:
        """Initializes the weights."""
        self.layers = body_layers()
        self.classifier = Layer(LOGITS, 1, (1, 1, CHANNELS[-1], classes))
        everything = [*self.layers, self.classifier]
        self.weights = [tf.Variable(layer.initial_weights(rng)) for layer in everything]
        self.biases = [tf.Variable(tf.zeros(classes))]
        self.gammas = [tf.Variable(tf.ones(layer.channels)) for layer in self.layers]
        self.betas = [tf.Variable(tf.zeros(layer.channels)) for layer in self.layers]
        self.means = [tf.Variable(tf.zeros(layer.channels)) for layer in self.layers]
        self.variances = [tf.Variable(tf.ones(layer.channels)) for layer in self.layers]

    def float_logits(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [N, SIZE, SIZE, 3] to logits [N, classes] and updates the batch statistics."""
        for i, layer in enumerate(self.layers):
            x = layer.convolve(x, self.weights[i])
            x, mean, variance = tf.compat.v1.nn.fused_batch_norm(
                x, self.gammas[i], self.betas[i], epsilon=BN_EPSILON, is_training=True
            )
            self.means[i].assign(BN_MOMENTUM * self.means[i] + (1 - BN_MOMENTUM) * mean)
            self.variances[i].assign(BN_MOMENTUM * self.variances[i] + (1 - BN_MOMENTUM) * variance)
            x = tf.nn.relu6(x)
        pooled = tf.reduce_mean(x, [1, 2])
        return pooled @ self.weights[-1][0, 0] + self.biases[-1]

    def fold(self) -> None:
        """Multiplies the normalization into the kernels and adds its rest as biases."""
        biases = []
        for i, layer in enumerate(self.layers):
            factor = self.gammas[i] / tf.sqrt(self.variances[i] + BN_EPSILON)
            self.weights[i].assign(
                self.weights[i] * (factor[:, None] if layer.depthwise else factor)
            )
            biases.append(tf.Variable(self.betas[i] - self.means[i] * factor))
        self.biases = [*biases, *self.biases]

    def quantized_logits(self, x: tf.Tensor) -> tf.Tensor:
        """Maps [N, SIZE, SIZE, 3] to logits [N, classes], rounding as the uint8 network does."""
        for i, layer in enumerate(self.layers):
            kernel = fake_quant(self.weights[i], weight_range(self.weights[i]))
            x = tf.nn.relu6(layer.convolve(x, kernel) + self.biases[i])
            x = fake_quant(x, (0.0, 6.0))
        pooled = fake_quant(tf.reduce_mean(x, [1, 2]), (0.0, 6.0))
        kernel = fake_quant(self.weights[-1], weight_range(self.weights[-1]))
        return pooled @ kernel[0, 0] + self.biases[-1]

    def freeze(self, logit_range: tuple[float, float]) -> tf.compat.v1.GraphDef:
        """Writes the folded network as a graph of constants for one image."""
        # Variables can be read outside the new graph only.
        values = [
            (weights.numpy(), biases.numpy())
            for weights, biases in zip(self.weights, self.biases, strict=True)
        ]
        graph = tf.Graph()
        with graph.as_default():
            x = tf.compat.v1.placeholder(tf.float32, [1, SIZE, SIZE, 3], name="input")
            for layer, (weights, biases) in zip(self.layers, values, strict=False):
                x = _frozen_convolution(layer, weights, biases, x)
                x = tf.nn.relu6(x, name=f"{layer.name}/Relu6")
                x = _named_fake_quant(x, (0.0, 6.0), f"{layer.name}/act_quant")
            x = tf.nn.avg_pool2d(x, x.shape[1:3], 2, "VALID", name=POOL)
            x = _frozen_convolution(self.classifier, *values[-1], x)
            x = _named_fake_quant(x, logit_range, f"{LOGITS}/act_quant")
            shape = [1, self.classifier.channels]
            x = tf.reshape(x, shape, name="MobilenetV1/Logits/SpatialSqueeze1")
            tf.nn.softmax(x, name=PREDICTIONS)
        return graph.as_graph_def()


def weight_range(weights: tf.Tensor) -> Range:
    """Returns the smallest and the largest weight; the range always contains 0."""
    return tf.minimum(0.0, tf.reduce_min(weights)), tf.maximum(0.0, tf.reduce_max(weights))


def fake_quant(x: tf.Tensor, limits: Range | tuple[float, float]) -> tf.Tensor:
    """Rounds to the 256 values of a uint8 over a range; the gradient passes within it."""
    return tf.quantization.fake_quant_with_min_max_vars(x, *limits)


def _named_fake_quant(x: tf.Tensor, limits: tuple[float, float], scope: str) -> tf.Tensor:
    low, high = (
        tf.constant(limit, tf.float32, name=f"{scope}/{end}")
        for limit, end in zip(limits, ("min", "max"), strict=True)
    )
    return tf.quantization.fake_quant_with_min_max_vars(
        x, low, high, name=f"{scope}/FakeQuantWithMinMaxVars"
    )


def _frozen_convolution(
    layer: Layer, weights: NDArray[np.float32], biases: NDArray[np.float32], x: tf.Tensor
) -> tf.Tensor:
    limits = (min(0.0, float(weights.min())), max(0.0, float(weights.max())))
    kernel = tf.constant(weights, name=f"{layer.name}/weights")
    kernel = _named_fake_quant(kernel, limits, f"{layer.name}/weights_quant")
    operator = "depthwise_Fold" if layer.depthwise else "Conv2D_Fold"
    x = layer.convolve(x, kernel, f"{layer.name}/{operator}")
    bias = tf.constant(biases, name=f"{layer.name}/biases")
    return tf.nn.bias_add(x, bias, name=f"{layer.name}/add_fold")


def fit(
    logits: Callable[[tf.Tensor], tf.Tensor],
    variables: list[tf.Variable],
    data: tuple[NDArray[np.uint8], NDArray[np.int32]],
    epochs: int,
    rate: float,
    rng: np.random.Generator,
) -> None:
    """Minimizes the cross-entropy over the variables with Adam, its rate falling to 0."""
    steps = epochs * (len(data[0]) // BATCH)
    optimizer = tf.keras.optimizers.Adam(tf.keras.optimizers.schedules.CosineDecay(rate, steps))
    optimizer.build(variables)

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            scores = logits(normalize(images))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
            loss = tf.reduce_mean(losses)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        hits = tf.argmax(scores, 1, tf.int32) == labels
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))

    for epoch in range(epochs):
        begin = time.perf_counter()
        results = [step(images, labels) for images, labels in batches(*data, rng)]
        loss, accuracy = np.mean([[float(v) for v in result] for result in results], axis=0)
        progress = f"epoch {epoch + 1}/{epochs}, {time.perf_counter() - begin:.0f} s"
        print(f"{progress}: loss {loss:.3f} accuracy {accuracy:.3f}")


def predict(network: Network, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the quantized network's logits [N, classes] for photos that are not augmented."""
    grid = nearest(0, PHOTO_SIZE)
    parts = np.array_split(photos[:, grid[:, None], grid], len(photos) // BATCH)
    return np.concatenate([network.quantized_logits(normalize(part)).numpy() for part in parts])


def train(seed: int) -> tf.compat.v1.GraphDef:
    """Trains a network from scratch and returns its frozen graph."""
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    rng = np.random.default_rng(seed)
    begin = time.perf_counter()
    data = draw_photos(0, PHOTOS_PER_KIND)
    test_photos, test_labels = draw_photos(PHOTOS_PER_KIND, TEST_PHOTOS_PER_KIND)
    print(f"drew {len(data[0])} + {len(test_photos)} photos, {time.perf_counter() - begin:.0f} s")

    network = Network(len(PRETRAINING_KINDS), rng)
    variables = [*network.weights, *network.gammas, *network.betas, *network.biases]
    fit(network.float_logits, variables, data, FLOAT_EPOCHS, FLOAT_RATE, rng)
    network.fold()
    variables = [*network.weights, *network.biases]
    fit(network.quantized_logits, variables, data, QUANTIZED_EPOCHS, QUANTIZED_RATE, rng)

    scores = predict(network, test_photos)
    accuracy = np.mean(scores.argmax(axis=1) == test_labels)
    print(f"accuracy on {len(test_labels)} unseen photos: {accuracy:.3f}")
    print(f"{time.perf_counter() - begin:.0f} s in all")
    return network.freeze((min(0.0, float(scores.min())), max(0.0, float(scores.max()))))


def main() -> None:
    """Trains the backbone and writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).with_name("mobilenet_v1_0.25_96_quant_frozen.pb")
    parser.add_argument("--output", type=Path, default=default)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.write_bytes(train(arguments.seed).SerializeToString())


if __name__ == "__main__":
    main()
