"""Cut off the last layer of a classifier."""

import difflib
import logging
from typing import NamedTuple

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.integrity import or_empty
from edgetpu_retrain.tflite.model import Model, Operator
from edgetpu_retrain.tflite.versions import lower_versions

log = logging.getLogger(__name__)

# Operators allowed between the last layer with weights and the output of a classifier.
_TAIL = {"RESHAPE", "SQUEEZE", "SOFTMAX", "LOGISTIC", "QUANTIZE", "DEQUANTIZE"}
# Operators of hidden layers between the pooled vector and the last layer.
_HIDDEN = {
    *("RESHAPE", "SQUEEZE", "QUANTIZE", "FULLY_CONNECTED", "CONV_2D", "ADD", "MUL", "SUB"),
    *("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "PRELU", "ELU", "HARD_SWISH", "TANH"),
}
POOLS = {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN", "REDUCE_MAX"}
_VECTOR = ((1,), (1, 1, 1))
_QUANTIZED = ("uint8", "int8")
_REFERENCES = ("inputs", "outputs", "intermediates")
_MAX_SUGGESTIONS = 5
# How the reason for a cut begins.
_CUT = "The network is cut at "


class Cut(NamedTuple):
    """Where to cut a network.

    Attributes:
        tensor: the index of the tensor.
        reason: why not in front of the last layer; "" if it is there.
    """

    tensor: int
    reason: str = ""


def truncate(
    model: Model, tensor: str | None = None, dtypes: tuple[str, ...] = _QUANTIZED
) -> Model:
    """Cuts off the last layer of a classifier with `cut_at`.

    Args:
        model: a classifier with one subgraph; it is not changed.
        tensor: name of the tensor to cut at; by default, the result of `find_cut`.
        dtypes: dtypes that the tensor may have.

    Returns:
        The embedding extractor.

    Raises:
        UserError: there is no such tensor, or it is not a vector of one of these dtypes; the
            message lists the last operators.
    """
    if tensor is None:
        return cut_at(model, *find_cut(model, dtypes))
    return cut_at(model, _find_tensor(model, tensor, dtypes))


def cut_at(model: Model, tensor: int, reason: str = "") -> Model:
    """Returns the part of a model that computes a tensor, with that tensor as the output.

    Operators after the cut are dropped, and so are the tensors, buffers and operator codes that
    only they use, and the TFLite Metadata. Everything else is unchanged and keeps its order, except
    that operator versions are lowered to what the operators need (`versions.lower_versions`).

    Args:
        model: a model with one subgraph; it is not changed.
        tensor: index of the tensor.
        reason: as in `Cut`; it becomes the description of the result (`cut_reason`).
    """
    extractor = lower_versions(model)
    if reason:
        extractor.unpacked.description = reason
    subgraph = extractor.subgraph
    subgraph.operators = _needed_operators(subgraph, tensor)
    subgraph.outputs = [tensor]
    for signature in or_empty(extractor.unpacked.signatureDefs):
        signature.outputs = or_empty(signature.outputs)[:1]
        for entry in signature.outputs:
            entry.tensorIndex = tensor
    drop_unused(extractor)
    return extractor


def cut_reason(model: Model) -> str:
    """Returns the reason for the cut that a model was made with; "" if there is none."""
    text = model.unpacked.description or ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return text if text.startswith(_CUT) else ""


def find_cut(model: Model, dtypes: tuple[str, ...] = _QUANTIZED) -> Cut:
    """Finds the input of a classifier's last layer, or the pooled vector before hidden layers.

    The last layer is a FULLY_CONNECTED, or a CONV_2D with a 1x1 kernel on a 1x1 image, that is
    followed only by RESHAPE, SQUEEZE, SOFTMAX, LOGISTIC, QUANTIZE or DEQUANTIZE.

    If its input is computed from a wider globally pooled vector, by layers that make it narrower,
    the cut is at the pooled vector. Such hidden layers have been trained for the network's own
    classes, and leave out what tells others apart.

    Raises:
        UserError: there is no such layer, or its input is not a vector of one of `dtypes`; the
            message lists the last operators.
    """
    _check_uncompiled(model)
    if len(model.outputs) != 1:
        raise model.error(
            f"has {len(model.outputs)} outputs, so it is not a classifier.\n{model.tail()}"
        )
    producers = {output: operator for operator in model.operators for output in operator.outputs}
    tensor: int | None = int(model.subgraph.outputs[0])
    while tensor in producers:
        # Visiting each operator once ends the search even if a damaged model contains a cycle.
        operator = producers.pop(tensor)
        if operator.name == "FULLY_CONNECTED" or _is_1x1(model, operator):
            last = _check_embedding(model, operator.inputs[0], dtypes)
            return _before_hidden_layers(model, last, dtypes)
        tensor = operator.inputs[0] if operator.name in _TAIL and operator.inputs else None
    raise model.error(
        "does not end in a fully connected layer or a 1x1 convolution (and at most a softmax), "
        "so no last layer to cut off was found. If it is a classifier, set the tensor to cut at; "
        f"if it is already an extractor, give it as extractor.\n{model.tail()}"
    )


def _before_hidden_layers(model: Model, last: int, dtypes: tuple[str, ...]) -> Cut:
    """Returns the pooled vector that hidden layers make narrower, or `last` if there is none."""
    tensor = last
    # In a damaged model with a cycle, the way back would not end.
    for _ in model.operators:
        operator = model.producer(tensor)
        spec = model.tensor(tensor)
        if operator is None or spec.shape[:-1] not in _VECTOR:
            break
        if operator.name in POOLS:
            if spec.shape[-1] <= model.tensor(last).shape[-1] or spec.dtype not in dtypes:
                break
            reason = (
                f"{_CUT}{spec}, the pooled vector, because the hidden layers after it (to "
                f"{model.tensor(last)}) were trained for the network's own classes. To keep them, "
                f"set tensor: {model.tensor(last).name}."
            )
            log.info("%s", reason)
            return Cut(tensor, reason)
        inputs = [i for i in operator.inputs if i >= 0 and model.constant(i) is None]
        if operator.name not in _HIDDEN or not inputs:
            break
        tensor = inputs[0]
    return Cut(last)


def _is_1x1(model: Model, operator: Operator) -> bool:
    if operator.name != "CONV_2D":
        return False
    image, weights = (model.tensor(i).shape for i in operator.inputs[:2])
    return weights[1:3] == (1, 1) and image[1:3] == (1, 1)


def _check_embedding(model: Model, index: int, dtypes: tuple[str, ...]) -> int:
    """Returns `index`; raises a UserError if the tensor cannot be an extractor's output."""
    tensor = model.tensor(index)
    if tensor.dtype not in dtypes:
        requirement = "it must be float32"
        if dtypes == _QUANTIZED:
            requirement = "a model for the Edge TPU must be quantized to uint8 or int8 first"
        raise model.error(
            f"has the tensor {tensor.name!r} of type {tensor.dtype}: {requirement}.\n{model.tail()}"
        )
    if tensor.shape[:-1] not in _VECTOR:
        raise model.error(
            f"has the tensor {tensor.name!r} of shape {list(tensor.shape)}; an embedding is a "
            f"vector, [1, D] or [1, 1, 1, D].\n{model.tail()}"
        )
    return index


def _check_uncompiled(model: Model) -> None:
    if model.is_compiled:
        raise model.error(
            "is already compiled for the Edge TPU, so it cannot be cut; use the model it was "
            f"compiled from.\n{model.tail()}"
        )
    if len(model.unpacked.subgraphs) != 1:
        raise model.error(f"has {len(model.unpacked.subgraphs)} subgraphs; a classifier has one.")


def _find_tensor(model: Model, name: str, dtypes: tuple[str, ...]) -> int:
    """Finds a tensor by its full name, or by the first of the names that the converter joined."""
    _check_uncompiled(model)
    outputs = sorted({output for operator in model.operators for output in operator.outputs})
    matches = [i for i in outputs if model.full_name(i) == name]
    matches = matches or [i for i in outputs if model.tensor(i).name == name]
    if not matches:
        known = {model.tensor(i).name for i in outputs}
        similar = difflib.get_close_matches(name, known, n=_MAX_SUGGESTIONS, cutoff=0.3)
        hint = f" Similar names are: {', '.join(similar)}." if similar else ""
        raise model.error(f"has no operator with the output {name!r}.{hint}\n{model.tail()}")
    if len(matches) > 1:
        names = "\n".join(f"  {model.full_name(i)}" for i in matches)
        raise model.error(
            f"has several tensors whose name begins with {name!r}; give the full name of one of "
            f"them:\n{names}"
        )
    return _check_embedding(model, matches[0], dtypes)


def _needed_operators(subgraph: schema.SubGraphT, output: int) -> list[schema.OperatorT]:
    """Returns the operators that `output` depends on, in execution order."""
    needed_tensors, needed_operators = {output}, []
    for operator in reversed(subgraph.operators):
        if needed_tensors.intersection(int(i) for i in operator.outputs):
            needed_operators.append(operator)
            needed_tensors.update(int(i) for i in operator.inputs)
    return needed_operators[::-1]


def drop_unused(model: Model) -> None:
    """Removes unused tensors, buffers, operator codes and TFLite Metadata; renumbers the rest."""
    subgraph, unpacked = model.subgraph, model.unpacked
    operators = subgraph.operators
    references = [or_empty(getattr(op, name)) for op in operators for name in _REFERENCES]
    used = {int(i) for group in [*references, subgraph.inputs, subgraph.outputs] for i in group}
    tensors = _renumbering(len(subgraph.tensors), used)
    subgraph.tensors = [subgraph.tensors[i] for i in tensors]
    for operator in operators:
        for name in _REFERENCES:
            _renumber(operator, name, tensors)
    for name in ("inputs", "outputs"):
        _renumber(subgraph, name, tensors)
    for entry in [*model.signature_entries("inputs"), *model.signature_entries("outputs")]:
        entry.tensorIndex = tensors[entry.tensorIndex]

    # TFLite Metadata (https://ai.google.dev/edge/litert/models/metadata) describes the old outputs.
    unpacked.metadata = [m for m in or_empty(unpacked.metadata) if m.name != b"TFLITE_METADATA"]
    unpacked.metadataBuffer = None
    buffers = _renumbering(
        len(unpacked.buffers),
        # By convention, buffer 0 is empty.
        {0} | {t.buffer for t in subgraph.tensors} | {m.buffer for m in unpacked.metadata},
    )
    unpacked.buffers = [unpacked.buffers[i] for i in buffers]
    for owner in [*subgraph.tensors, *unpacked.metadata]:
        owner.buffer = buffers[owner.buffer]

    codes = _renumbering(
        len(unpacked.operatorCodes), {operator.opcodeIndex for operator in operators}
    )
    unpacked.operatorCodes = [unpacked.operatorCodes[i] for i in codes]
    for operator in operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]


def _renumbering(count: int, used: set[int]) -> dict[int, int]:
    """Returns a mapping from the old to the new indices of the used elements."""
    return {old: new for new, old in enumerate(i for i in range(count) if i in used)}


def _renumber(owner: object, name: str, new_indices: dict[int, int]) -> None:
    indices = getattr(owner, name)
    if indices is not None:
        # Omitted optional inputs have the index -1.
        setattr(owner, name, [new_indices.get(int(i), -1) for i in indices])
