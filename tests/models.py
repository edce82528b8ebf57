"""Look into .tflite files and run them, by the schema and the runtime alone."""

from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils

NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if name[0] != "_"}
KERNELS = {"xnnpack": OpResolverType.AUTO, "reference": OpResolverType.BUILTIN_REF}


def unpack(content: bytes) -> schema.ModelT:
    return flatbuffer_utils.read_model_from_bytearray(content)


def pack(model: schema.ModelT) -> bytes:
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def changed(content: bytes, change: Callable[[schema.ModelT], object]) -> bytes:
    """A model after a change to the schema's object of it."""
    model = unpack(content)
    change(model)
    return pack(model)


def operators(model: schema.ModelT) -> list[tuple[str, int]]:
    """Name and version of every operator."""
    codes = [model.operatorCodes[op.opcodeIndex] for op in model.subgraphs[0].operators]
    return [(NAMES[max(c.builtinCode, c.deprecatedBuiltinCode)], c.version) for c in codes]


def tensor(model: schema.ModelT, index: int) -> schema.TensorT:
    return model.subgraphs[0].tensors[index]


def values(model: schema.ModelT, index: int, dtype: type) -> np.ndarray:
    found = tensor(model, index)
    return np.frombuffer(bytes(model.buffers[found.buffer].data), dtype).reshape(found.shape)


def runtime(content: bytes, kernels: str = "xnnpack", **options) -> Interpreter:
    found = Interpreter(
        model_content=content, experimental_op_resolver_type=KERNELS[kernels], **options
    )
    found.allocate_tensors()
    return found


def invoke(model: Interpreter, values: np.ndarray) -> np.ndarray:
    """What a model gives for an input without its first dimension."""
    image, output = model.get_input_details()[0], model.get_output_details()[0]
    model.set_tensor(image["index"], values[np.newaxis])
    model.invoke()
    return model.get_tensor(output["index"])
