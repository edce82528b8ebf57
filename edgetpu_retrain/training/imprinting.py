"""Weight imprinting: the weights of a class are the mean direction of its embeddings.

Source: Qi, Brown & Lowe (2018), Low-Shot Learning with Imprinted Weights. `ImprintingEngine` has
the interface of PyCoral's class of that name.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import Head, l2_normalize

# Default factor for cosine similarities before softmax.
SCALE = 20.0
_L2 = "L2_NORMALIZATION"
# Operators allowed after it: those of Coral's models, and those of this project.
_TAILS = (
    ["CONV_2D", "MUL", "RESHAPE", "SOFTMAX"],
    ["QUANTIZE", "CONV_2D", "MUL", "RESHAPE", "SOFTMAX"],
    ["FULLY_CONNECTED", "RESHAPE", "SOFTMAX"],
    ["FULLY_CONNECTED", "SOFTMAX"],
    ["FULLY_CONNECTED", "RESHAPE", "SOFTMAX", "QUANTIZE"],
    ["FULLY_CONNECTED", "SOFTMAX", "QUANTIZE"],
)


class UnsuitableModelError(UserError, ValueError):
    """The model is not suitable for imprinting."""


class NotTrainedError(UserError, RuntimeError):
    """There are no classes yet, or a class cannot be trained."""


def directions(sums: np.ndarray) -> np.ndarray:
    """Returns weights [D, C] of unit norm per class, from sums of embeddings [C, D]."""
    return l2_normalize(sums).T


class ImprintingEngine:
    """Adds classes to a model, one embedding at a time.

    A drop-in replacement for ``pycoral.learn.imprinting.engine.ImprintingEngine``. It accepts
    models with L2_NORMALIZATION (Coral's, and those made with the recipe ``imprinting``) and
    embedding extractors, to which it appends L2_NORMALIZATION.
    """

    def __init__(self, model_path: str | Path, keep_classes: bool = False):
        """Reads a model.

        Args:
            model_path: path of a .tflite file, compiled or not.
            keep_classes: whether to keep the model's classes and add new ones to them.

        Raises:
            ValueError: there is no such file, or the model is a classifier without
                L2_NORMALIZATION or with other operators after it than a layer and a softmax. The
                exception is also a `UserError`.
        """
        # Importing this module should not require the schema.
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
            position = names.index(_L2)
            if names[position + 1 :] not in _TAILS:
                raise UnsuitableModelError(
                    "Unsupported model architecture. L2Norm must be followed by one layer and "
                    f"Softmax; in {model_path} it is followed by "
                    f"{', '.join(names[position + 1 :]) or 'nothing'}."
                )
            self._layer = _Layer(model, position)
            self._normalized_extractor = _cut(model, position + 1)
            self._extractor = _cut(model, position)
        elif "SOFTMAX" in names or any(output.scale is None for output in model.outputs):
            raise UnsuitableModelError(
                "Unsupported model architecture. Input model must have an L2Norm layer."
            )
        else:
            self._extractor = model
            self._normalized_extractor = append_l2_normalization(model)
        # The sum of the embeddings of each class; None for classes that cannot be trained.
        self._sums: list[np.ndarray | None] = []
        self._num_kept_classes = 0
        if keep_classes and self._layer is not None:
            self._sums = list(self._layer.sums())
            self._num_kept_classes = len(self._sums)

    @property
    def embedding_dim(self) -> int:
        """Number of values in an embedding."""
        return int(self._normalized_extractor.outputs[0].shape[-1])

    @property
    def num_classes(self) -> int:
        """Current number of classes."""
        return len(self._sums)

    def serialize_extractor_model(self) -> bytes:
        """Returns the extractor with L2-normalized embeddings as the contents of a .tflite file."""
        return bytes(self._normalized_extractor.to_bytes())

    def train(self, embedding: np.ndarray, class_id: int) -> None:
        """Adds an embedding to a class.

        Args:
            embedding: [D] float, dequantized output of the model that
                `serialize_extractor_model` returns.
            class_id: index of a class trained by imprinting, or `num_classes` for a new class.

        Raises:
            RuntimeError: the embedding does not have D values, or the class cannot be trained. The
                exception is also a `UserError`.
        """
        embedding = np.asarray(embedding, np.float64).reshape(-1)
        if len(embedding) != self.embedding_dim:
            raise NotTrainedError(
                f"The embedding has {len(embedding)} values; the model's embeddings have "
                f"{self.embedding_dim}."
            )
        if not 0 <= class_id <= self.num_classes:
            raise NotTrainedError(
                f"class_id is {class_id}; it must be from 0 to {self.num_classes}, where "
                f"{self.num_classes} adds a class."
            )
        if class_id == self.num_classes:
            self._sums.append(np.zeros(self.embedding_dim))
        class_sum = self._sums[class_id]
        if class_sum is None:
            raise NotTrainedError(
                f"Class {class_id} was not trained by imprinting, so it cannot be changed."
            )
        self._sums[class_id] = class_sum + embedding

    def serialize_model(self) -> bytes:
        """Returns the classifier, as the contents of a .tflite file.

        Raises:
            RuntimeError: there are no classes. The exception is also a `UserError`.
        """
        from edgetpu_retrain.tflite.append_head import append_head

        if not self._sums:
            raise NotTrainedError("Model is not trained.")
        trained = {i: total for i, total in enumerate(self._sums) if total is not None}
        if self._layer is not None and (self._num_kept_classes or self._layer.is_coral):
            model = self._layer.with_classes(
                len(self._sums),
                {i: l2_normalize(total[np.newaxis])[0] for i, total in trained.items()},
            )
        else:
            scale = self._layer.norm if self._layer else SCALE
            weights = directions(np.stack(list(trained.values()))) * scale
            biases = np.zeros(len(trained), np.float32)
            head = Head(weights.astype(np.float32), biases, (0.0, scale), normalized=True)
            model = append_head(self._extractor, head)
        # PyCoral stores the norms in the same way, so either can continue training.
        model.unpacked.description = "".join(
            f"{i} {np.linalg.norm(total):f}\n" for i, total in trained.items()
        )
        return bytes(model.to_bytes())


class _Layer:
    """The layer after L2_NORMALIZATION, with its classes.

    Attributes:
        is_coral: whether it has the structure of Coral's models: CONV_2D and MUL.
        norm: L2 norm of the weights of a class.
    """

    def __init__(self, model: Any, position: int):
        self._model = model
        names = [operator.name for operator in model.operators]
        self.is_coral = "CONV_2D" in names[position:]
        operator = "CONV_2D" if self.is_coral else "FULLY_CONNECTED"
        self._position = names.index(operator, position)
        _, self._kernel, self._bias = model.operators[self._position].inputs
        spec = model.tensor(self._kernel)
        self._dtype, self._scale, self._zero_point = spec.dtype, spec.scale, spec.zero_point
        self._values = model.constant(self._kernel).view(spec.dtype).reshape(spec.shape[0], -1)
        norms = np.linalg.norm(self._weights(), axis=1)
        self.norm = 1.0 if self.is_coral else float(np.median(norms))

    def _weights(self) -> np.ndarray:
        """Returns the dequantized weights, float64 [C, D]."""
        return np.asarray(self._scale * (self._values.astype(np.float64) - self._zero_point))

    def sums(self) -> Iterator[np.ndarray | None]:
        """Yields the sum of the embeddings of each class; None if the file has no norm for it."""
        description = self._model.unpacked.description or b""
        text = description if isinstance(description, str) else description.decode()
        norms = dict(line.split() for line in text.splitlines() if len(line.split()) == 2)
        for i, weights in enumerate(self._weights()):
            norm = norms.get(str(i))
            yield None if norm is None else weights / self.norm * float(norm)

    def with_classes(self, count: int, classes: dict[int, np.ndarray]) -> Any:
        """Returns the model with new or changed classes.

        Args:
            count: new number of classes.
            classes: directions [D] of the classes trained by imprinting, by index; the quantized
                weights of all others are unchanged.
        """
        limits = np.iinfo(self._dtype)
        values = np.empty((count, self._values.shape[1]), self._dtype)
        values[: len(self._values)] = self._values[:count]
        for i, direction in classes.items():
            steps = np.round(direction * self.norm / self._scale) + self._zero_point
            values[i] = steps.clip(limits.min, limits.max).astype(self._dtype)
        model = self._model.copy()
        before = len(self._values)
        bias = model.constant(self._bias).view(np.int32)
        # All imprinted classes have the same bias.
        biases = np.full(count, 0 if self.is_coral else bias[-1], np.int32)
        if not self.is_coral:
            biases[: min(before, count)] = bias[:count]
        self._set_constant(model, self._kernel, values)
        self._set_constant(model, self._bias, biases)
        for operator, described in zip(
            model.subgraph.operators[self._position :],
            model.operators[self._position :],
            strict=True,
        ):
            model.subgraph.tensors[described.outputs[0]].shape[-1] = count
            if described.name == "RESHAPE":
                if len(described.inputs) > 1:
                    shape = model.constant(described.inputs[1]).view(np.int32).copy()
                    shape[-1] = count
                    self._set_constant(model, described.inputs[1], shape, shape.shape)
                if operator.builtinOptions and operator.builtinOptions.newShape is not None:
                    operator.builtinOptions.newShape = [1, count]
        if self.is_coral:
            self._widen_ranges(model)
        # The metadata contains the names of the previous classes only.
        model.unpacked.metadata = [
            entry for entry in model.unpacked.metadata or [] if entry.name != b"TFLITE_METADATA"
        ]
        return model

    def _set_constant(
        self, model: Any, index: int, values: np.ndarray, shape: tuple[int, ...] | None = None
    ) -> None:
        """Replaces the values of a constant, and its shape or else its first dimension."""
        tensor = model.subgraph.tensors[index]
        model.unpacked.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.shape = list(shape or (len(values), *tensor.shape[1:]))

    def _widen_ranges(self, model: Any) -> None:
        """Widens the layer's output range to all cosines, -1 to 1, and later ranges alike."""
        layer, multiplication, reshape, _ = model.operators[self._position :]
        spec = model.tensor(multiplication.inputs[1])
        quantized = int(model.constant(multiplication.inputs[1]).view(spec.dtype)[0])
        factor = spec.scale * (quantized - spec.zero_point)
        for index, limit in (
            (layer.outputs[0], 1.0),
            (multiplication.outputs[0], factor),
            (reshape.outputs[0], factor),
        ):
            quantization = model.subgraph.tensors[index].quantization
            quantization.min, quantization.max = [-limit], [limit]
            quantization.scale, quantization.zeroPoint = [limit / 128], [128]


def _cut(model: Any, count: int) -> Any:
    """Returns a model of the first `count` operators, with the output of the last of them."""
    from edgetpu_retrain.tflite.truncate import drop_unused

    part = model.copy()
    part.subgraph.operators = part.subgraph.operators[:count]
    part.subgraph.outputs = [int(part.subgraph.operators[-1].outputs[0])]
    # The signatures refer to the scores, which are removed.
    part.unpacked.signatureDefs = []
    part.unpacked.description = None
    drop_unused(part)
    return part
