"""Cut the last layer off a classifier."""

import difflib

from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.tflite.model import Model, Operator, some
from edgetpu_retrain.tflite.versions import lower_versions

# What may stand between the last layer with weights and the output of a classifier.
_TAIL = {"RESHAPE", "SQUEEZE", "SOFTMAX", "LOGISTIC", "QUANTIZE", "DEQUANTIZE"}
_QUANTIZED = ("uint8", "int8")
_REFERENCES = ("inputs", "outputs", "intermediates")
_MAX_SUGGESTIONS = 5


def truncate(
    model: Model, tensor: str | None = None, dtypes: tuple[str, ...] = _QUANTIZED
) -> Model:
    """Cuts the last layer off a classifier, as `cut_at` does.

    Args:
        model: a classifier with one subgraph; it stays as it is.
        tensor: name of the tensor to cut at; by default the one that `find_cut` finds.
        dtypes: of what there may be cut.

    Returns:
        The embedding extractor.

    Raises:
        UserError: there is no such tensor or no such place, or the values there are not a
            vector of these dtypes; the text lists the last operators.
    """
    return cut_at(
        model, find_cut(model, dtypes) if tensor is None else _find_tensor(model, tensor, dtypes)
    )


def cut_at(model: Model, tensor: int) -> Model:
    """Makes a tensor the output.

    What only the operators behind the cut used is dropped: operators, tensors, buffers, operator
    codes, and metadata on the outputs. The rest stays as it is, in its order, but for versions of
    operators, which are lowered to what these use (`versions.lower_versions`).

    Args:
        model: has one subgraph; it stays as it is.
        tensor: index of the tensor.
    """
    extractor = lower_versions(model)
    subgraph = extractor.subgraph
    subgraph.operators = _needed_operators(subgraph, tensor)
    subgraph.outputs = [tensor]
    for signature in some(extractor.unpacked.signatureDefs):
        signature.outputs = some(signature.outputs)[:1]
        for entry in signature.outputs:
            entry.tensorIndex = tensor
    drop_unused(extractor)
    return extractor


def find_cut(model: Model, dtypes: tuple[str, ...] = _QUANTIZED) -> int:
    """Finds where a classifier's last layer takes its input.

    That is the activation input of the last FULLY_CONNECTED, or of the 1x1 CONV_2D, that only
    RESHAPE, SQUEEZE, SOFTMAX, LOGISTIC, QUANTIZE and DEQUANTIZE follow.

    Returns:
        The tensor's index.

    Raises:
        UserError: there is no such place, or the values there are not a vector of these dtypes;
            the text lists the last operators.
    """
    _check_uncompiled(model)
    if len(model.outputs) != 1:
        raise model.error(
            f"has {len(model.outputs)} outputs, so it is not a classifier.\n{model.tail()}"
        )
    writers = {output: operator for operator in model.operators for output in operator.outputs}
    tensor: int | None = int(model.subgraph.outputs[0])
    while tensor in writers:
        # An operator is met once, so one that feeds itself ends the search.
        operator = writers.pop(tensor)
        if operator.name == "FULLY_CONNECTED" or _is_1x1(model, operator):
            return _check_embedding(model, operator.inputs[0], dtypes)
        tensor = operator.inputs[0] if operator.name in _TAIL and operator.inputs else None
    raise model.error(
        "does not end in a fully connected layer or a 1x1 convolution (and at most a softmax), "
        "so no last layer to cut off was found. If it is a classifier, name the tensor to cut at; "
        f"if it is an extractor already, give it as one.\n{model.tail()}"
    )


def _is_1x1(model: Model, operator: Operator) -> bool:
    if operator.name != "CONV_2D":
        return False
    image, weights = (model.tensor(i).shape for i in operator.inputs[:2])
    return weights[1:3] == (1, 1) and image[1:3] == (1, 1)


def _check_embedding(model: Model, index: int, dtypes: tuple[str, ...]) -> int:
    """Returns the index of a tensor that can be an extractor's output; others are refused."""
    tensor = model.tensor(index)
    if tensor.dtype not in dtypes:
        advice = "it must be float32"
        if dtypes == _QUANTIZED:
            advice = "a model for the Edge TPU must be quantized to uint8 or int8 first"
        raise model.error(
            f"has the tensor {tensor.name!r} as {tensor.dtype}: {advice}.\n{model.tail()}"
        )
    if tensor.shape[:-1] not in ((1,), (1, 1, 1)):
        raise model.error(
            f"has the tensor {tensor.name!r} in the shape {list(tensor.shape)}; an embedding is a "
            f"vector, [1, D] or [1, 1, 1, D].\n{model.tail()}"
        )
    return index


def _check_uncompiled(model: Model) -> None:
    if model.is_compiled:
        raise model.error(
            "is compiled for the Edge TPU already, which locks its layers; take the model that it "
            f"was compiled from.\n{model.tail()}"
        )
    if len(model.unpacked.subgraphs) != 1:
        raise model.error(f"has {len(model.unpacked.subgraphs)} subgraphs; a classifier has one.")


def _find_tensor(model: Model, name: str, dtypes: tuple[str, ...]) -> int:
    """Finds a tensor by its name, or by the first of the names that the converter joined."""
    _check_uncompiled(model)
    written = sorted({output for operator in model.operators for output in operator.outputs})
    found = [i for i in written if model.full_name(i) == name]
    found = found or [i for i in written if model.tensor(i).name == name]
    if not found:
        known = {model.tensor(i).name for i in written}
        near = difflib.get_close_matches(name, known, n=_MAX_SUGGESTIONS, cutoff=0.3)
        hint = f" The nearest names are: {', '.join(near)}." if near else ""
        raise model.error(f"has no operator that writes a tensor {name!r}.{hint}\n{model.tail()}")
    if len(found) > 1:
        names = "\n".join(f"  {model.full_name(i)}" for i in found)
        raise model.error(
            f"has several tensors whose name begins with {name!r}; name one of them whole, where "
            f"their names differ:\n{names}"
        )
    return _check_embedding(model, found[0], dtypes)


def _needed_operators(subgraph: schema.SubGraphT, output: int) -> list[schema.OperatorT]:
    """Returns the operators that `output` depends on, in their order."""
    wanted, needed = {output}, []
    for operator in reversed(subgraph.operators):
        if wanted.intersection(int(i) for i in operator.outputs):
            needed.append(operator)
            wanted.update(int(i) for i in operator.inputs)
    return needed[::-1]


def drop_unused(model: Model) -> None:
    """Drops what no operator uses any more, and renumbers what refers to the rest."""
    subgraph, unpacked = model.subgraph, model.unpacked
    operators = subgraph.operators
    references = [some(getattr(op, name)) for op in operators for name in _REFERENCES]
    used = {int(i) for found in [*references, subgraph.inputs, subgraph.outputs] for i in found}
    tensors = _kept(len(subgraph.tensors), used)
    subgraph.tensors = [subgraph.tensors[i] for i in tensors]
    for operator in operators:
        for name in _REFERENCES:
            _renumber(operator, name, tensors)
    for name in ("inputs", "outputs"):
        _renumber(subgraph, name, tensors)
    for entry in [*model.signature_entries("inputs"), *model.signature_entries("outputs")]:
        entry.tensorIndex = tensors[entry.tensorIndex]

    # TFLite Metadata (https://ai.google.dev/edge/litert/models/metadata) describes the outputs.
    unpacked.metadata = [m for m in some(unpacked.metadata) if m.name != b"TFLITE_METADATA"]
    unpacked.metadataBuffer = None
    buffers = _kept(
        len(unpacked.buffers),
        # Buffer 0 is by convention the empty one.
        {0} | {t.buffer for t in subgraph.tensors} | {m.buffer for m in unpacked.metadata},
    )
    unpacked.buffers = [unpacked.buffers[i] for i in buffers]
    for owner in [*subgraph.tensors, *unpacked.metadata]:
        owner.buffer = buffers[owner.buffer]

    codes = _kept(len(unpacked.operatorCodes), {operator.opcodeIndex for operator in operators})
    unpacked.operatorCodes = [unpacked.operatorCodes[i] for i in codes]
    for operator in operators:
        operator.opcodeIndex = codes[operator.opcodeIndex]


def _kept(count: int, used: set[int]) -> dict[int, int]:
    """Maps the old number of what is used to its new one."""
    return {old: new for new, old in enumerate(i for i in range(count) if i in used)}


def _renumber(owner: object, name: str, numbers: dict[int, int]) -> None:
    found = getattr(owner, name)
    if found is not None:
        # Missing optional inputs are numbered -1.
        setattr(owner, name, [numbers.get(int(i), -1) for i in found])
