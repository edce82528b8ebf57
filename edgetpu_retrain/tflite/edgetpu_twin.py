"""Compare the weights in a compiled file with those of its CPU twin, and replace them."""

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
    """The result of comparing the parameters in a compiled file with those of a CPU model.

    Attributes:
        total: number of bytes of parameters in the compiled file.
        equal: number of these bytes that are as expected.
        layers: the expected parameters of each layer.
        places: offset of each layer's parameters; None for a layer that could not be compared.
        differs: the first layer with other weights; None if none was found.
    """

    total: int
    equal: int
    layers: tuple[LayerParameters, ...]
    places: tuple[int | None, ...]
    differs: LayerParameters | None

    @property
    def whole(self) -> bool:
        """Whether every byte is as expected."""
        return self.differs is None and self.equal == self.total and None not in self.places

    def __str__(self) -> str:
        if self.differs is not None:
            return f"has other weights; the first layer that differs is {self.differs.name}"
        text = f"has the same weights: {self.equal:,} of {self.total:,} bytes"
        pairs = zip(self.layers, self.places, strict=False)
        unknown = [layer.name for layer, place in pairs if place is None]
        if unknown:
            more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
            text += (
                f"; {len(unknown)} of {len(self.layers)} layers could not be compared, because the "
                f"compiler's layout of them is unknown: {', '.join(unknown[:_SHOWN])}{more}"
            )
        return text


def compare(extractor: Model, compiled: Model) -> Comparison:
    """Compares the parameters of a CPU model with those in its compiled twin.

    A layer counts as different if other bytes are found where its parameters must be: the layers
    before it match, and either a later layer matches too or the total size fits. Other bytes do not
    count if the layer's layout is only derived, or if the file was made by a newer compiler and
    matches in none of the layers, because that compiler may use another layout.

    Args:
        extractor: the CPU model.
        compiled: the compiled model.

    Raises:
        UserError: one of the files is damaged.
    """
    packages = read_packages(compiled)
    parameters = b"".join(one.parameters for package in packages for one in package.executables)
    # Layers that were left to the CPU are the last ones.
    on_cpu = sum(operator.name in WITH_PARAMETERS for operator in compiled.operators)
    layers = lay_out(extractor)
    layers = layers[: max(len(layers) - on_cpu, 0)]
    known = all(package.min_runtime_version <= _PROVEN_RUNTIME for package in packages) or any(
        layer.content is not None and layer.content in parameters for layer in layers
    )
    differs, equal, places = None, 0, list[int | None]()
    # Possible numbers of zero bytes between `at` and the next layer; empty if unknown.
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
    """Replaces the weights and biases in a compiled file; everything else stays the same.

    The instructions in a compiled file depend only on shapes, scales and zero points, so these must
    not change.

    Args:
        compiled: path of the compiled file.
        extractor: its CPU twin.
        changed: the CPU twin with other weights and biases.

    Returns:
        The content of the compiled twin of `changed`.

    Raises:
        UserError: not every byte of the compiled file could be matched with the extractor, or
            `changed` differs from the extractor in more than weights and biases.
    """
    model = Model.load(compiled)
    known = compare(extractor, model)
    if not known.whole:
        raise model.error(
            f"cannot be given other weights: compared with {extractor.source}, it {known}. Compile "
            "the changed network instead."
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
        raise model.error(
            f"was not rewritten correctly: compared with {changed.source}, it {proof}."
        )
    return rewritten


def _check_grid(extractor: Model, changed: Model) -> None:
    """Raises a UserError if two models differ in more than the weights and biases of layers."""
    if _describe_graph(extractor) != _describe_graph(changed):
        raise changed.error(f"does not have the same operators as {extractor.source}.")
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
                f"differs from {extractor.source} in {extractor.tensor(index)}, and not only in "
                "weights and biases. The scales and zero points of all tensors must be the same."
            )


def _describe_graph(model: Model) -> tuple[object, ...]:
    """Returns the properties of the operators that must not change."""
    options = [one.builtinOptions for one in model.subgraph.operators]
    # As text, because options may contain arrays.
    described = [str(one and vars(one)) for one in options]
    return model.operators, described, len(model.subgraph.tensors)


def _describe_tensor(model: Model, index: int, free: bool) -> tuple[object, ...]:
    """Returns the properties of a tensor that must not change, with its values unless `free`."""
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
    """Returns the offset of a layer that follows `at` after one of the gaps; None if none does."""
    if layer.content is None:
        return None
    for gap in gaps:
        if parameters.startswith(layer.content, at + gap) and not any(parameters[at : at + gap]):
            return at + gap
    return None


def _is_next(
    parameters: bytes, at: int, gaps: tuple[int, ...], layers: Sequence[LayerParameters]
) -> bool:
    """Returns whether the first of the layers must be at `at`, judging by what follows.

    That is another of the layers at the right distance, or the end of the parameters.
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
