"""Find damage in a .tflite file that a runtime would not, or would crash of."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

TYPE_NAMES = {
    code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")
}
# Bits per value, of types that constants usually have.
_BITS = {"float32": 32, "int32": 32, "int64": 64, "float16": 16, "int16": 16, "int8": 8, "uint8": 8}


def or_empty(vector: Sequence[Any] | None) -> Sequence[Any]:
    """Returns a vector of the schema, or an empty one for None (the field is not in the file)."""
    return () if vector is None else vector


def check_values(model: schema.ModelT) -> None:
    """Raises a ValueError if a tensor that is read has no values, or too few of them."""
    for subgraph in model.subgraphs:
        written = {int(i) for i in subgraph.inputs}
        written.update(int(i) for operator in subgraph.operators for i in operator.outputs)
        read = {int(i) for operator in subgraph.operators for i in operator.inputs if i != -1}
        for i in sorted(read.union(map(int, subgraph.outputs)) - written):
            tensor = subgraph.tensors[i]
            data, shape = model.buffers[tensor.buffer].data, or_empty(tensor.shape)
            count = int(np.prod(np.maximum(shape, 0), dtype=np.int64))
            size = 0 if data is None else len(data)
            if count and not size and not tensor.isVariable:
                raise ValueError(f"nothing writes tensor {i}, and the file has no values for it")
            bits = _BITS.get(TYPE_NAMES[tensor.type], 0) if tensor.sparsity is None else 0
            if not tensor.isVariable and 8 * size < bits * count:
                raise ValueError(f"tensor {i} has {size} bytes instead of {bits * count // 8}")


def make_names_text(model: schema.ModelT) -> None:
    """Replaces what is not UTF-8 in names; the runtime and the quantizer would stop at it."""
    named: list[tuple[Any, str]] = [
        (tensor, "name") for subgraph in model.subgraphs for tensor in subgraph.tensors
    ]
    for signature in or_empty(model.signatureDefs):
        named.append((signature, "signatureKey"))
        for entry in [*or_empty(signature.inputs), *or_empty(signature.outputs)]:
            named.append((entry, "name"))
    for owner, field in named:
        name = getattr(owner, field)
        if isinstance(name, bytes) and not _is_utf8(name):
            setattr(owner, field, name.decode(errors="replace").encode())


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_offsets(content: bytes) -> None:
    """Raises an IndexError if a buffer stored after the FlatBuffer is truncated."""
    packed = schema.Model.GetRootAs(content, 0)
    for i in range(packed.BuffersLength()):
        buffer = packed.Buffers(i)
        if buffer.Offset() + buffer.Size() > len(content):
            raise IndexError(f"buffer {i} extends beyond the end of the file")


def check_references(model: schema.ModelT) -> None:
    """Raises an IndexError or TypeError if an index in a model is out of range or missing."""
    _check_indices([0], len(model.subgraphs))
    _check_indices([entry.buffer for entry in or_empty(model.metadata)], len(model.buffers))
    for subgraph in model.subgraphs:
        count = len(subgraph.tensors)
        _check_indices([tensor.buffer for tensor in subgraph.tensors], len(model.buffers))
        _check_indices([tensor.type for tensor in subgraph.tensors], len(TYPE_NAMES))
        _check_indices([*subgraph.inputs, *subgraph.outputs], count)
        for operator in subgraph.operators:
            _check_indices([operator.opcodeIndex], len(model.operatorCodes))
            operator.inputs, operator.outputs = (
                or_empty(operator.inputs),
                or_empty(operator.outputs),
            )
            # Omitted optional inputs have the index -1.
            _check_indices([i for i in operator.inputs if i != -1], count)
            _check_indices(operator.outputs, count)
    for signature in or_empty(model.signatureDefs):
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for entry in [*or_empty(signature.inputs), *or_empty(signature.outputs)]:
            _check_indices([entry.tensorIndex], count)


def _check_indices(indices: Iterable[int], count: int) -> None:
    for i in indices:
        if not 0 <= i < count:
            raise IndexError(f"index {i} is out of range for {count} elements")
