"""The kinds of backbone: their configuration, and how an extractor is made from each."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from edgetpu_retrain.backbone import unknown
from edgetpu_retrain.backbone.sources import Source
from edgetpu_retrain.config import messages
from edgetpu_retrain.config.messages import Number, Section, WholeNumber
from edgetpu_retrain.errors import UserError, how_to_install

# Keys of the catalogue that describe a network but are not needed to use it.
INFORMATION = (
    "description",
    "labels",
    "licence",
    "input_size",
    "parameters",
    "imagenet_top1",
    "edgetpu_ms",
)
_FILE = "a path, or a mapping with url and its checksum (sha256 or git_blob)"
_TENSOR = "the name of a tensor"
_STD = "a number greater than 0"
# The packages that extras of pyproject.toml install, by the names of their modules.
_PACKAGES = {
    "tensorflow": {"tensorflow": "TensorFlow"},
    "quantize": {"ai_edge_quantizer": "ai-edge-quantizer", "sklearn": "scikit-learn"},
}


class Backbone(Section):
    """A pre-trained network. Each subclass is one kind of backbone.

    Attributes:
        KIND: key of the config with the network's file.
        FILE_NAME: name of the file after a download.
        ENVIRONMENT: conda environment in workflow/envs that `make_extractor` needs.
        EXTRAS: extras of pyproject.toml that making a quantized extractor needs.
        CALIBRATED: whether the extractor is quantized with photos of the dataset, and therefore
            specific to the dataset.
        FINE_TUNED: whether the extractor is fine-tuned on photos of the dataset.
        make_extractor: makes an embedding extractor for the CPU. Its arguments are the path of the
            network, the path of the extractor, and the result of `settings`. The extractor takes
            raw RGB bytes; if the kind is `CALIBRATED`, it is a float extractor.
        name: name of its folder in results/DATASET/.
        source: the network's file.
        compiled: the extractor compiled for the Edge TPU, if there is one.
        width: number of values in the embedding, if known.
        mean: pixel value that the network takes as 0. If `mean` and `std` are None, the input is
            raw RGB bytes.
        std: number of pixel values per unit of the network's input.
    """

    KIND: ClassVar[str]
    FILE_NAME: ClassVar[str]
    ENVIRONMENT: ClassVar[str] = "retrain"
    EXTRAS: ClassVar[tuple[str, ...]] = ()
    CALIBRATED: ClassVar[bool] = False
    FINE_TUNED: ClassVar[bool] = False
    make_extractor: ClassVar[Callable[..., None]]

    name: str = Field(
        # Not the name of what else is in results/DATASET.
        pattern=r"^(?!(?i:shards|.*\.(?:tsv|json|html|log))\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z",
        description=(
            "at most 100 letters, digits, dots, dashes and underscores, and not shards or a name "
            "that ends in .tsv, .json, .html or .log"
        ),
    )
    source: Source
    compiled: Source | None = Field(default=None, description=_FILE)
    width: WholeNumber | None = Field(
        default=None, ge=1, description="a whole number, 1 or greater"
    )
    mean: Number | None = Field(default=None, description="a number")
    std: Number | None = Field(default=None, gt=0, description=_STD)

    @property
    def belongs_to_dataset(self) -> bool:
        """Whether the extractor depends on photos of the dataset."""
        return self.CALIBRATED or self.FINE_TUNED

    @property
    def needs_compiler(self) -> bool:
        """Whether the extractor for the Edge TPU is made by edgetpu_compiler."""
        return self.compiled is None

    def settings(self) -> dict[str, Any]:
        """Returns the keyword arguments of `make_extractor` other than paths."""
        return {"width": self.width, "mean": self.mean, "std": self.std}


class Extractor(Backbone):
    """A quantized embedding extractor as a .tflite file."""

    KIND = "extractor"
    FILE_NAME = "extractor.tflite"

    source: Source = Field(alias="extractor", description=_FILE)

    @staticmethod
    def make_extractor(
        network: str | Path,
        output: str | Path,
        width: int | None,
        mean: float | None,
        std: float | None,
    ) -> None:
        """Checks an extractor and makes it take raw RGB bytes.

        Raises:
            UserError: the file is not an extractor, or its embedding does not have `width` values.
        """
        from edgetpu_retrain.tflite.model import Model

        _finish(Model.load(network), output, width, mean, std)


class Classifier(Backbone):
    """A quantized classifier as a .tflite file, cut at the input of its last layer.

    Attributes:
        tensor: name of the embedding; None to detect it.
    """

    KIND = "tflite"
    FILE_NAME = "classifier.tflite"

    source: Source = Field(alias="tflite", description=_FILE)
    tensor: str | None = Field(default=None, description=_TENSOR)

    def settings(self) -> dict[str, Any]:  # noqa: D102
        return super().settings() | {"tensor": self.tensor}

    @staticmethod
    def make_extractor(
        network: str | Path,
        output: str | Path,
        width: int | None,
        mean: float | None,
        std: float | None,
        tensor: str | None,
    ) -> None:
        """Cuts off the last layer.

        Raises:
            UserError: the network cannot be cut, or the result is not a suitable extractor.
        """
        from edgetpu_retrain.tflite.float_network import is_float
        from edgetpu_retrain.tflite.model import Model
        from edgetpu_retrain.tflite.truncate import truncate

        if is_float(network):
            # `parse` cannot detect this before the file is downloaded.
            raise UserError(
                f"{network} is a float network. Give it as {FloatClassifier.KIND} instead of "
                f"{Classifier.KIND}, with mean and std; it is then quantized with your photos."
            )
        _finish(truncate(Model.load(network), tensor), output, width, mean, std)


class FrozenGraph(Backbone):
    """A quantization-aware frozen TensorFlow 1 graph, cut with tflite_convert.

    Attributes:
        tensor: name of the embedding.
        input: name of the input image.
    """

    KIND = "frozen_graph"
    FILE_NAME = "frozen_graph.pb"
    ENVIRONMENT = "tensorflow"
    EXTRAS = ("tensorflow",)

    source: Source = Field(alias="frozen_graph", description=_FILE)
    # tflite_convert takes no others.
    mean: WholeNumber | None = Field(default=128, description="a whole number")
    std: WholeNumber | None = Field(default=128, gt=0, description="a whole number greater than 0")
    tensor: str = Field(description=_TENSOR)
    input: str = Field(default="input", description=_TENSOR)

    def settings(self) -> dict[str, Any]:  # noqa: D102
        return super().settings() | {"tensor": self.tensor, "input": self.input}

    @staticmethod
    def make_extractor(
        network: str | Path,
        output: str | Path,
        width: int | None,
        mean: float,
        std: float,
        tensor: str,
        input: str,
    ) -> None:
        """Converts the part of the graph from its input to its embedding.

        Raises:
            UserError: the graph cannot be converted, or the result is not a suitable extractor.
        """
        from edgetpu_retrain.backbone import frozen_graph
        from edgetpu_retrain.io import files
        from edgetpu_retrain.tflite.model import Model

        with files.replacing(output) as temporary:
            frozen_graph.truncate(network, temporary, input, tensor, mean, std)
            model = Model.parse(temporary.read_bytes(), f"the extractor made from {network}")
            _finish(model, temporary, width, mean, std)


class FloatClassifier(Backbone):
    """A float classifier as a .tflite file, quantized with photos of the dataset.

    Attributes:
        tensor: name of the embedding; None to detect it.
    """

    KIND = "float_tflite"
    FILE_NAME = "float.tflite"
    EXTRAS: ClassVar[tuple[str, ...]] = ("quantize",)
    CALIBRATED = True

    source: Source = Field(alias="float_tflite", description=_FILE)
    tensor: str | None = Field(default=None, description=_TENSOR)
    # It becomes the zero point of a uint8 input.
    mean: Number | None = Field(ge=0, le=255, description="a number from 0 to 255")
    std: Number | None = Field(gt=0, description=_STD)

    def settings(self) -> dict[str, Any]:  # noqa: D102
        return {"width": self.width, "tensor": self.tensor}

    @staticmethod
    def make_extractor(
        network: str | Path, output: str | Path, width: int | None, tensor: str | None
    ) -> None:
        """Cuts off the last layer, and prepares the rest for quantization.

        Raises:
            UserError: the network cannot be cut, or its embedding does not have `width` values.
        """
        from edgetpu_retrain.tflite.float_network import float_extractor
        from edgetpu_retrain.tflite.model import Model

        float_extractor(Model.load(network), tensor, width).save(output)


class KerasModel(FloatClassifier):
    """A float classifier saved by Keras."""

    KIND = "keras"
    FILE_NAME = "network.keras"
    ENVIRONMENT = "tensorflow"
    EXTRAS = ("tensorflow", "quantize")

    source: Source = Field(alias="keras", description=_FILE)

    @staticmethod
    def make_extractor(
        network: str | Path, output: str | Path, width: int | None, tensor: str | None
    ) -> None:
        """Converts the network to .tflite, then proceeds as in `FloatClassifier`.

        Raises:
            UserError: the network cannot be converted or cut, or its embedding does not have
                `width` values.
        """
        from edgetpu_retrain.backbone import keras_network
        from edgetpu_retrain.io import files
        from edgetpu_retrain.tflite.float_network import float_extractor
        from edgetpu_retrain.tflite.model import Model

        with files.replacing(output) as temporary:
            keras_network.convert(network, temporary)
            model = Model.parse(temporary.read_bytes(), str(network))
            float_extractor(model, tensor, width).save(temporary)


class SavedModel(KerasModel):
    """A float classifier as a folder in TensorFlow's SavedModel format."""

    KIND = "saved_model"
    FILE_NAME = "saved_model"

    source: Source = Field(alias="saved_model", description="the path of a folder")

    @field_validator("source")
    @classmethod
    def _is_on_disk(cls, source: Source) -> Source:
        if source.path is None:
            raise ValueError("a folder cannot be downloaded")
        return source


_ALL = (Extractor, Classifier, FrozenGraph, FloatClassifier, KerasModel, SavedModel)
KINDS: dict[str, type[Backbone]] = {kind.KIND: kind for kind in _ALL}


def _finish(
    model: Any, output: str | Path, width: int | None, mean: float | None, std: float | None
) -> None:
    from edgetpu_retrain.tflite.checks import check_extractor
    from edgetpu_retrain.tflite.image_input import accept_rgb, drop_float_ends
    from edgetpu_retrain.tflite.raw_input import take_raw_rgb
    from edgetpu_retrain.tflite.versions import lower_versions

    model = accept_rgb(drop_float_ends(model))
    check_extractor(model, width)
    lower_versions(take_raw_rgb(model, mean, std)).save(output)


def resolve(
    wanted: str | Mapping[str, Any], catalogue: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Resolves the key `backbone` of the config to an entry with all keys.

    Args:
        wanted: the name of a backbone in the catalogue, or an entry. An entry without the file of a
            network, but with a name in the catalogue, is merged with the catalogue's entry and
            takes precedence over it.
        catalogue: the entries of workflow/backbones.yaml, by name.

    Raises:
        UserError: the name is not in the catalogue, or is a path.
    """
    if not isinstance(wanted, str):
        has_network = KINDS.keys() & wanted.keys()
        base = {} if has_network else catalogue.get(str(wanted.get("name", "")), {})
        return {**_without_information(base), **wanted}
    if wanted not in catalogue:
        raise UserError(unknown.explain(wanted, catalogue))
    return {"name": wanted, **_without_information(catalogue[wanted])}


def _without_information(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key not in INFORMATION}


def parse(entry: dict[str, Any]) -> Backbone:
    """Parses an entry returned by `resolve`.

    Raises:
        UserError: a key is missing, unknown, or not used by this kind of backbone; a value is
            invalid; or a file is not on disk.
    """
    if isinstance(path := entry.get(Classifier.KIND), str) and _is_float(path):
        entry = {**entry, FloatClassifier.KIND: path}
        del entry[Classifier.KIND]
    given = [name for name in KINDS if name in entry]
    if len(given) != 1:
        raise UserError(
            f"config: backbone: give one of {', '.join(KINDS)}, or the name of a backbone in "
            f"workflow/backbones.yaml; you gave {' and '.join(given) or 'none of them'}."
        )
    kind = KINDS[given[0]]
    if kind.CALIBRATED and not {"mean", "std"} <= entry.keys():
        raise UserError(
            "config: backbone: a float network does not record how its pixels were scaled in "
            "training. Give mean and std of (pixel - mean) / std: 127.5 and 127.5 for -1..1, 0 and "
            "255 for 0..1, 0 and 1 for 0..255 or if the network scales its pixels itself."
        )
    backbone = messages.parse(kind, entry, f"config: backbone (of kind {kind.KIND})")
    if (backbone.mean is None) != (backbone.std is None):
        raise UserError(
            "config: backbone: mean and std must be given together; one of them is missing."
        )
    backbone.source.check_exists(f"backbone.{kind.KIND}", is_folder=kind is SavedModel)
    if backbone.compiled is not None:
        backbone.compiled.check_exists("backbone.compiled")
    return backbone


def _is_float(path: str) -> bool:
    from edgetpu_retrain.tflite.float_network import is_float

    return is_float(os.path.expanduser(path))


def check_installed(backbone: Backbone) -> None:
    """Raises a UserError if packages that making the extractor of a backbone needs are missing."""
    missing = {
        package: extra
        for extra in backbone.EXTRAS
        for module, package in _PACKAGES[extra].items()
        if importlib.util.find_spec(module) is None
    }
    if missing:
        raise UserError(
            f"The backbone {backbone.name} (of kind {backbone.KIND}) needs packages that are not "
            f"installed here: {', '.join(missing)}. "
            f"{how_to_install(','.join(dict.fromkeys(missing.values())))}"
        )
