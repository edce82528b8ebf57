"""Refuse graphs that would read or write files when they are loaded or converted.

A SavedModel is a program that TensorFlow runs, and a converter runs what it can compute ahead
(https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md).
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Operators that access files or the network, or call Python; no image classifier needs one.
# RestoreV2, which reads weights, is part of every SavedModel.
_UNSAFE = re.compile(
    r"File|Save|Print|Summary|PyFunc|Reader|Dataset|Checkpoint|Debug|Sql|Lmdb|Rpc|Dump|Record"
    r"|Snapshot|Restore(?!V2$)"
)


def in_saved_model(folder: Path) -> list[str]:
    """Returns the names of operators in a SavedModel that loading or converting it must not run.

    The function that saves the model again does not count, unless something else uses it.

    Args:
        folder: the SavedModel; it is parsed, not loaded.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return sorted({name for graph in model.meta_graphs for name in _unsafe_in(graph)})


def in_graph(graph: Any, output: str = "") -> list[str]:
    """Returns the same of a graph (`GraphDef`), or of what it needs to compute an output."""
    if output:
        return sorted(_unsafe_in_run(graph, [output], []))
    functions = [node for function in graph.library.function for node in function.node_def]
    return sorted({node.op for node in [*graph.node, *functions] if _UNSAFE.search(node.op)})


def _unsafe_in(meta_graph: Any) -> set[str]:
    # What TensorFlow runs: initializers, signatures, and the reading of the weights.
    waiting = [meta_graph.saver_def.restore_op_name]
    for collection in meta_graph.collection_def.values():
        waiting += collection.node_list.value
    for signature in meta_graph.signature_def.values():
        waiting += [tensor.name for tensor in signature.outputs.values()]
    called = [*meta_graph.object_graph_def.concrete_functions]
    return _unsafe_in_run(meta_graph.graph_def, waiting, called)


def _unsafe_in_run(graph: Any, waiting: list[str], called: list[str]) -> set[str]:
    """Returns the unsafe operators that run for some nodes and functions, by their names."""
    nodes = {node.name: node for node in graph.node}
    functions = {f.signature.name: f for f in graph.library.function}
    reached: dict[str, Any] = {}
    while waiting:
        name = waiting.pop().lstrip("^").split(":")[0]
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            waiting += nodes[name].input
    run = list(reached.values())
    called = [*called, *_called_by(run)]
    seen = set()
    while called:
        name = called.pop()
        if name in functions and name not in seen:
            seen.add(name)
            run += functions[name].node_def
            called += _called_by(functions[name].node_def)
    return {node.op for node in run if _UNSAFE.search(node.op)}


def _called_by(nodes: Iterable[Any]) -> list[str]:
    """Returns the names of the functions that nodes refer to, which may be their operators."""
    names = []
    for node in nodes:
        names.append(node.op)
        for value in node.attr.values():
            names += [value.func.name, *(function.name for function in value.list.func)]
    return names
