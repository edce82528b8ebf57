"""Weight imprinting (Qi, Brown & Lowe, 2018): a class is the mean of its embeddings' directions.

`ImprintingEngine` has PyCoral's interface: it teaches a model classes photo by photo.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head, l2_normalize

# By how much cosines are multiplied before softmax where nothing says better.
SCALE = 20.0
_L2 = "L2_NORMALIZATION"
# What may stand behind it: Coral's own models, and those that are made here.
_TAILS = (
    ["CONV_2D", "MUL", "RESHAPE", "SOFTMAX"],
    ["QUANTIZE", "CONV_2D", "MUL", "RESHAPE", "SOFTMAX"],
    ["FULLY_CONNECTED", "RESHAPE", "SOFTMAX"],
    ["FULLY_CONNECTED", "SOFTMAX"],
    ["FULLY_CONNECTED", "RESHAPE", "SOFTMAX", "QUANTIZE"],
    ["FULLY_CONNECTED", "SOFTMAX", "QUANTIZE"],
)


class UnsuitableModelError(UserError, ValueError):
    """A model cannot be imprinted."""


class NotTrainedError(UserError, RuntimeError):
    """There is nothing to write yet, or a class cannot be trained."""


def directions(sums: np.ndarray) -> np.ndarray:
    """Returns weights [D, C] of length 1 from sums of embeddings of length 1, [C, D]."""
    return l2_normalize(sums).T


class ImprintingEngine:
    """Adds classes to a model, one embedding at a time.

    A drop-in for ``pycoral.learn.imprinting.engine.ImprintingEngine``. It takes models that
    normalize their embedding: Coral's own, and what the recipe ``imprinting`` makes; also an
    embedding extractor, which it appends the normalization to.
    """

    def __init__(self, model_path: str | Path, keep_classes: bool = False):
        """Reads a model.

        Args:
            model_path: of a .tflite file, compiled or not.
            keep_classes: whether the classes that it has stay; new ones are then added.

        Raises:
            ValueError: there is no such file, or the model has no L2_NORMALIZATION. It is a
                `UserError` as well.
        """
        # Code that imprints nothing should not need the schema.
        from edgetpu_retrain.tflite.l2_normalization import append_l2_normalization
        from edgetpu_retrain.tflite.model import Model

        if not Path(model_path).is_file():
            raise UnsuitableModelError(f"Failed to open file: {model_path}")
        try:
            model = Model.load(model_path)
        except UserError as error:
            raise UnsuitableModelError(str(error)) from error
        names = [operator.name for operator in model.operators]
        self._layer: _Layer | None = None
        if _L2 in names:
            place = names.index(_L2)
            if names[place + 1 :] not in _TAILS:
                raise UnsuitableModelError(
                    "Unsupported model architecture. Behind L2Norm there should be one layer and "
                    f"Softmax; {model_path} has {', '.join(names[place + 1 :])}."
                )
            self._layer = _Layer(model, place)
            self._extractor = _cut(model, place + 1)
            self._bare = _cut(model, place)
        elif "SOFTMAX" in names or any(one.scale is None for one in model.outputs):
            raise UnsuitableModelError(
                "Unsupported model architecture. Input model must have an L2Norm layer."
            )
        else:
            self._bare, self._extractor = model, append_l2_normalization(model)
        # Of every class the sum of its embeddings; None for those that cannot be trained.
        self._sums: list[np.ndarray | None] = []
        self._kept = 0
        if keep_classes and self._layer is not None:
            self._sums = list(self._layer.sums())
            self._kept = len(self._sums)

    @property
    def embedding_dim(self) -> int:
        """How wide an embedding is."""
        return self._extractor.outputs[0].shape[-1]

    @property
    def num_classes(self) -> int:
        """How many classes there are now."""
        return len(self._sums)

    def serialize_extractor_model(self) -> bytes:
        """Returns the model that gives embeddings of length 1, as a .tflite file's bytes."""
        return self._extractor.to_bytes()

    def train(self, embedding: np.ndarray, class_id: int) -> None:
        """Adds an embedding to a class.

        Args:
            embedding: [D] float, as the extractor gives it, dequantized.
            class_id: of a class that was trained here, or the number of classes, for a new one.

        Raises:
            RuntimeError: the embedding is of another width, or the class cannot be trained. It is
                a `UserError` as well.
        """
        embedding = np.asarray(embedding, np.float64).reshape(-1)
        if len(embedding) != self.embedding_dim:
            raise NotTrainedError(
                f"The embedding has {len(embedding)} values; the model's have {self.embedding_dim}."
            )
        if not 0 <= class_id <= self.num_classes:
            raise NotTrainedError(
                f"There are {self.num_classes} classes; the next one is number "
                f"{self.num_classes}, not {class_id}."
            )
        if class_id == self.num_classes:
            self._sums.append(np.zeros(self.embedding_dim))
        before = self._sums[class_id]
        if before is None:
            raise NotTrainedError(
                f"Class {class_id} was not trained by imprinting, so it cannot be changed."
            )
        self._sums[class_id] = before + embedding

    def serialize_model(self) -> bytes:
        """Returns the classifier as a .tflite file's bytes.

        Raises:
            RuntimeError: there is no class. It is a `UserError` as well.
        """
        from edgetpu_retrain.tflite.append_head import append_head

        if not self._sums:
            raise NotTrainedError("Model is not trained.")
        trained = {i: total for i, total in enumerate(self._sums) if total is not None}
        if self._layer is not None and (self._kept or self._layer.is_coral):
            model = self._layer.with_classes(
                len(self._sums),
                {i: l2_normalize(total[np.newaxis])[0] for i, total in trained.items()},
            )
        else:
            scale = self._layer.length if self._layer else SCALE
            weights = directions(np.stack(list(trained.values()))) * scale
            biases = np.zeros(len(trained), np.float32)
            head = Head(weights.astype(np.float32), biases, (0.0, scale), normalized=True)
            model = append_head(self._bare, head)
        # As PyCoral does, so that either can go on.
        model.unpacked.description = "".join(
            f"{i} {np.linalg.norm(total):f}\n" for i, total in trained.items()
        )
        return model.to_bytes()


class _Layer:
    """The layer behind L2_NORMALIZATION, and the classes in it.

    Attributes:
        is_coral: whether it is laid out as in Coral's models.
        length: how long the weights of a class are.
    """

    def __init__(self, model: Any, place: int):
        self._model = model
        names = [operator.name for operator in model.operators]
        self.is_coral = "CONV_2D" in names[place:]
        self._place = names.index("CONV_2D" if self.is_coral else "FULLY_CONNECTED", place)
        _, self._kernel, self._bias = model.operators[self._place].inputs
        spec = model.tensor(self._kernel)
        self._dtype, self._scale, self._zero_point = spec.dtype, spec.scale, spec.zero_point
        self._values = model.constant(self._kernel).view(spec.dtype).reshape(spec.shape[0], -1)
        lengths = np.linalg.norm(self._weights(), axis=1)
        self.length = 1.0 if self.is_coral else float(np.median(lengths))

    def _weights(self) -> np.ndarray:
        return self._scale * (self._values.astype(np.float64) - self._zero_point)

    def sums(self) -> Iterator[np.ndarray | None]:
        """Yields of every class the sum of its embeddings; None where the file does not say."""
        description = self._model.unpacked.description or b""
        text = description if isinstance(description, str) else description.decode()
        lengths = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        for i, weights in enumerate(self._weights()):
            known = lengths.get(str(i))
            yield None if known is None else weights / self.length * float(known)

    def with_classes(self, count: int, classes: dict[int, np.ndarray]) -> Any:
        """Returns the model with other classes.

        Args:
            count: how many there are then.
            classes: directions [D] of those that were trained; the others stay bit by bit.
        """
        limits = np.iinfo(self._dtype)
        values = np.empty((count, self._values.shape[1]), self._dtype)
        values[: len(self._values)] = self._values[:count]
        for i, direction in classes.items():
            steps = np.round(direction * self.length / self._scale) + self._zero_point
            values[i] = steps.clip(limits.min, limits.max).astype(self._dtype)
        model = self._model.copy()
        before = len(self._values)
        bias = model.constant(self._bias).view(np.int32)
        # Those of imprinted classes are all the same.
        biases = np.full(count, 0 if self.is_coral else bias[-1], np.int32)
        if not self.is_coral:
            biases[: min(before, count)] = bias[:count]
        self._put(model, self._kernel, values)
        self._put(model, self._bias, biases)
        for operator, described in zip(
            model.subgraph.operators[self._place :],
            model.operators[self._place :],
            strict=True,
        ):
            model.subgraph.tensors[described.outputs[0]].shape[-1] = count
            if described.name == "RESHAPE":
                if len(described.inputs) > 1:
                    shape = model.constant(described.inputs[1]).view(np.int32).copy()
                    shape[-1] = count
                    self._put(model, described.inputs[1], shape, shape.shape)
                if operator.builtinOptions and operator.builtinOptions.newShape is not None:
                    operator.builtinOptions.newShape = [1, count]
        if self.is_coral:
            self._widen(model)
        # The names in the file are those of the classes before.
        model.unpacked.metadata = [
            entry for entry in model.unpacked.metadata or [] if entry.name != b"TFLITE_METADATA"
        ]
        return model

    def _put(
        self, model: Any, index: int, values: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> None:
        """Gives a constant other values; its first dimension is theirs."""
        tensor = model.subgraph.tensors[index]
        model.unpacked.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.shape = list(shape or (len(values), *tensor.shape[1:]))

    def _widen(self, model: Any) -> None:
        """Lets the layer give all cosines, -1 to 1, and what is behind it their multiples."""
        layer, times, reshape, _ = model.operators[self._place :]
        factor = model.tensor(times.inputs[1])
        steps = int(model.constant(times.inputs[1]).view(factor.dtype)[0])
        times_scale = factor.scale * (steps - factor.zero_point)
        for index, scale in (
            (layer.outputs[0], 1.0),
            (times.outputs[0], times_scale),
            (reshape.outputs[0], times_scale),
        ):
            quantization = model.subgraph.tensors[index].quantization
            quantization.min, quantization.max = [-scale], [scale]
            quantization.scale, quantization.zeroPoint = [scale / 128], [128]


def _cut(model: Any, count: int) -> Any:
    """Returns a model of the first `count` operators, which gives what the last of them writes."""
    from edgetpu_retrain.tflite.truncate import drop_unused

    part = model.copy()
    part.subgraph.operators = part.subgraph.operators[:count]
    part.subgraph.outputs = [int(part.subgraph.operators[-1].outputs[0])]
    # They name scores as output.
    part.unpacked.signatureDefs = []
    part.unpacked.description = None
    drop_unused(part)
    return part
