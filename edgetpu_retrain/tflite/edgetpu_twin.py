"""Whether a compiled file holds the weights of a model for the CPU, and how to put others in."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgetpu_retrain.tflite.edgetpu_package import read_packages
from edgetpu_retrain.tflite.edgetpu_parameters import WITH_PARAMETERS, LayerParameters, lay_out
from edgetpu_retrain.tflite.integrity import or_empty
from edgetpu_retrain.tflite.model import Model

_SHOWN = 3
# That of the published files in which the layout was found.
_PROVEN_RUNTIME = 12


@dataclass(frozen=True)
class Comparison:
    """How much of a compiled file's parameters are known to be a model's.

    Attributes:
        total: bytes of parameters in the compiled file.
        equal: how many of them are as they should be.
        layers: what each layer's parameters should be.
        places: where they start, None for a layer that could not be compared.
        differs: the first layer that holds other weights, None where none was found.
    """

    total: int
    equal: int
    layers: tuple[LayerParameters, ...]
    places: tuple[int | None, ...]
    differs: LayerParameters | None

    @property
    def whole(self) -> bool:
        """Whether every byte is as it should be."""
        return self.differs is None and self.equal == self.total and None not in self.places

    def __str__(self) -> str:
        if self.differs is not None:
            return f"holds other weights; the first layer that differs is {self.differs.name}"
        text = f"holds the same weights: {self.equal:,} of {self.total:,} bytes"
        pairs = zip(self.layers, self.places, strict=False)
        unknown = [layer.name for layer, place in pairs if place is None]
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            text += (
                f"; {len(unknown)} of {len(self.layers)} layers could not be compared, since it is "
                f"not known how the compiler lays them out: {', '.join(unknown[:_SHOWN])}{more}"
            )
        return text


def compare(extractor: Model, compiled: Model) -> Comparison:
    """Looks for the parameters of a model's layers in its compiled twin.

    A layer differs where it holds other bytes at a place that is certain: the layers in front of it
    are in place, and so is one behind it, or all together have the size that the file has. Other
    bytes say nothing of a layer whose layout is only derived, nor in a file of a newer compiler
    that holds none of the layers: that compiler may lay them out in another way.

    Args:
        extractor: for the CPU.
        compiled: for the Edge TPU.

    Raises:
        UserError: one of the files is damaged.
    """
    packages = read_packages(compiled)
    parameters = b"".join(one.parameters for package in packages for one in package.executables)
    # The layers that a compiled model leaves to the CPU are its last.
    on_cpu = sum(operator.name in WITH_PARAMETERS for operator in compiled.operators)
    layers = lay_out(extractor)
    layers = layers[: max(len(layers) - on_cpu, 0)]
    known = all(package.min_runtime_version <= _PROVEN_RUNTIME for package in packages) or any(
        layer.content is not None and layer.content in parameters for layer in layers
    )
    differs, equal, places = None, 0, list[int | None]()
    # How many zero bytes may lie between `at` and the next layer; none where that is not known.
    at = 0
    gaps: tuple[int, ...] = (0,)
    for number, layer in enumerate(layers):
        place = _find_next(parameters, at, gaps, layer)
        if place is not None:
            equal += place - at
        elif _is_next(parameters, at, gaps, layers[number:]):
            if layer.proven and known:
                differs = layer
                break
        elif layer.content is not None:
            found = parameters.find(layer.content, at)
            place = None if found < 0 else found
        places.append(place)
        if place is None or layer.content is None:
            gaps = ()
        else:
            equal += len(layer.content)
            at, gaps = place + len(layer.content), layer.paddings
    rest = parameters[at:]
    if differs is None and len(rest) in gaps and not any(rest):
        equal += len(rest)
    return Comparison(len(parameters), equal, tuple(layers), tuple(places), differs)


def rewrite_parameters(compiled: str | Path, extractor: Model, changed: Model) -> bytes:
    """Puts changed weights and biases into a compiled file, which stays the same otherwise.

    The instructions in a compiled file depend on shapes, scales and zero points alone, so these
    have to be the same.

    Args:
        compiled: path of the file for the Edge TPU.
        extractor: its twin for the CPU.
        changed: the same with other weights and biases.

    Returns:
        The bytes of the file for the Edge TPU whose twin is `changed`.

    Raises:
        UserError: the file is not known to be the extractor's twin in every byte, or `changed`
            differs from the extractor in more than weights and biases.
    """
    model = Model.load(compiled)
    known = compare(extractor, model)
    if not known.whole:
        raise model.error(
            f"cannot take other weights. Compared with {extractor.source}, it {known}. Compile the "
            "changed network instead."
        )
    _check_grid(extractor, changed)
    parameters = bytearray(known.total)
    for layer, place in zip(lay_out(changed), known.places, strict=True):
        if layer.content is not None and place is not None:
            parameters[place : place + len(layer.content)] = layer.content
    content, read = bytearray(Path(compiled).read_bytes()), 0
    for package in read_packages(model):
        options = bytes(or_empty(model.subgraph.operators[package.operator].customOptions))
        start = content.index(options)
        for one in package.executables:
            at, size = start + one.parameters_at, len(one.parameters)
            content[at : at + size] = parameters[read : read + size]
            read += size
    rewritten = bytes(content)
    proof = compare(changed, Model.parse(rewritten, str(compiled)))
    if not proof.whole:
        raise model.error(f"was not rewritten correctly. With {changed.source}, it {proof}.")
    return rewritten


def _check_grid(extractor: Model, changed: Model) -> None:
    """Raises a UserError where two models differ in more than the weights and biases of layers."""
    if _describe_graph(extractor) != _describe_graph(changed):
        raise changed.error(f"has other operators than {extractor.source}.")
    free = {
        index
        for operator in extractor.operators
        if operator.name in WITH_PARAMETERS
        for index in operator.inputs[1:3]
    }
    for index in range(len(extractor.subgraph.tensors)):
        first, second = (
            _describe_tensor(one, index, index in free) for one in (extractor, changed)
        )
        if first != second:
            raise changed.error(
                f"differs from {extractor.source} in {extractor.tensor(index)}, in more than "
                "weights and biases. The scales and zero points of all tensors have to be the same."
            )


def _describe_graph(model: Model) -> tuple[object, ...]:
    """Returns what has to be the same of the operators."""
    options = [one.builtinOptions for one in model.subgraph.operators]
    # As text, since options may hold arrays.
    described = [str(one and vars(one)) for one in options]
    return model.operators, described, len(model.subgraph.tensors)


def _describe_tensor(model: Model, index: int, free: bool) -> tuple[object, ...]:
    """Returns what has to be the same of a tensor; its values too, where they are not free."""
    spec, quantization = model.tensor(index), model.subgraph.tensors[index].quantization
    grid = quantization and [or_empty(quantization.scale), or_empty(quantization.zeroPoint)]
    values = None if free else model.constant(index)
    return (
        spec.shape,
        spec.dtype,
        [list(map(float, numbers)) for numbers in grid or ()],
        None if values is None else values.tobytes(),
    )


def _find_next(
    parameters: bytes, at: int, gaps: tuple[int, ...], layer: LayerParameters
) -> int | None:
    """Returns where a layer starts that follows after one of some gaps, None where none does."""
    if layer.content is None:
        return None
    for gap in gaps:
        if parameters.startswith(layer.content, at + gap) and not any(parameters[at : at + gap]):
            return at + gap
    return None


def _is_next(
    parameters: bytes, at: int, gaps: tuple[int, ...], layers: Sequence[LayerParameters]
) -> bool:
    """Whether the first of some layers has its place there, by what is behind it.

    That is another of the layers, with room for those between, or the end of the parameters, with
    room for all.
    """
    ends = {at + gap for gap in gaps}
    for number, layer in enumerate(layers):
        if layer.content is None:
            return False
        size = len(layer.content)
        ends = {end + size + padding for end in ends for padding in layer.paddings}
        following = layers[number + 1].content if number + 1 < len(layers) else None
        if following and any(parameters.startswith(following, end) for end in ends):
            return True
    return len(parameters) in ends
