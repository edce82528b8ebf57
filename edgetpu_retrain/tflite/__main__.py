"""Inspect a .tflite file, or cut off its last layer.

python -m edgetpu_retrain.tflite show MODEL
python -m edgetpu_retrain.tflite truncate MODEL OUT [--tensor T]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.io import program
from edgetpu_retrain.tflite.edgetpu_package import Layer, Package, read_packages
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import find_cut, truncate


def show(model: Model) -> str:
    """Returns a listing of operators, tensors, quantization and packages, and where to cut."""
    lines = [f"input   {_describe(model, i)}" for i in model.subgraph.inputs]
    for number, operator in enumerate(model.operators):
        lines.append(f"{number:>4}  {operator.name} (version {operator.version})")
        constants = [i for i in operator.inputs if i >= 0 and model.constant(i) is not None]
        lines += [f"        with {_describe(model, i)}" for i in constants]
        lines += [f"        -> {_describe(model, i)}" for i in operator.outputs]
    lines += [f"output  {_describe(model, i)}" for i in model.subgraph.outputs]
    if len(model.unpacked.subgraphs) > 1:
        more = len(model.unpacked.subgraphs) - 1
        lines.append(f"and {more} more {'subgraph' if more == 1 else 'subgraphs'}")
    lines.append(f"compiled for the Edge TPU: {'yes' if model.is_compiled else 'no'}")
    for package in read_packages(model):
        lines += _describe_package(package)
    try:
        lines.append(f"would be cut at: {_describe(model, find_cut(model).tensor)}")
    except UserError as error:
        lines.append(f"cannot be cut: {str(error).splitlines()[0]}")
    return "\n".join(lines)


def _describe(model: Model, index: int) -> str:
    tensor = model.tensor(index)
    text = f"{tensor}{' (fused)' if ';' in model.full_name(index) else ''}"
    if tensor.scale is not None:
        return f"{text}, scale {tensor.scale:.7g}, zero point {tensor.zero_point}"
    return f"{text}, {model.num_scales(index)} scales" if model.num_scales(index) else text


def _describe_package(package: Package) -> list[str]:
    compiler = package.compiler_version or "of unknown version"
    lines = [
        f"package of operator {package.operator}: needs Edge TPU runtime "
        f"{package.min_runtime_version} or later, compiler {compiler}",
        f"  parameters: {package.cached_bytes:,} bytes cached on the chip, "
        f"{package.streamed_bytes:,} bytes sent again for every image",
    ]
    for one in package.executables:
        lines.append(
            f"  executable ({one.kind}): {one.instruction_bytes:,} bytes of instructions, "
            f"{len(one.parameters):,} of parameters, {one.scratch_bytes:,} of scratch memory"
        )
        lines += [f"    takes {_describe_layer(layer)}" for layer in one.inputs]
        lines += [f"    gives {_describe_layer(layer)}" for layer in one.outputs]
    return lines


def _describe_layer(layer: Layer) -> str:
    return (
        f"{layer.name!r} {layer.dtype} {list(layer.shape)}, scale {layer.scale:.7g}, "
        f"zero point {layer.zero_point}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m edgetpu_retrain.tflite",
        description="Inspect a .tflite file, or cut off its last layer.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    showing = commands.add_parser("show", help="print operators, tensors and where to cut")
    showing.add_argument("model", type=Path)
    cutting = commands.add_parser("truncate", help="cut off the last layer of a classifier")
    cutting.add_argument("model", type=Path)
    cutting.add_argument("out", type=Path)
    cutting.add_argument("--tensor", help="name of the tensor to cut at (default: detected)")
    options = parser.parse_args(arguments)
    with program.printing():
        model = Model.load(options.model)
        if options.command == "show":
            print(show(model))
        else:
            truncate(model, options.tensor).save(options.out)


if __name__ == "__main__":
    main()
