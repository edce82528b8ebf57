"""The configuration as a Pydantic model; config.yaml documents its keys."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from edgetpu_retrain.config import messages
from edgetpu_retrain.config.messages import Number, Section, WholeNumber
from edgetpu_retrain.errors import UserError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}\Z")]
Url = Annotated[str, Field(pattern=r"^https?://")]
_Text = Annotated[str, Field(min_length=1)]
# What Frigate takes as the name of a classification, and Snakemake as a folder.
FRIGATE_NAME = r"^(?![0-9]+\Z)[^./\\{}\x00-\x1f][^/\\{}\x00-\x1f]*\Z"
_SHA256 = "64 hexadecimal digits in quotes"


class Calibration(Section):
    """How a float network is quantized."""

    photos: WholeNumber = Field(default=200, ge=1, description="a whole number, 1 or greater")
    refresh: bool = Field(default=False, description="true or false")


class FineTuning(Section):
    """How the last layers of the backbone are fine-tuned."""

    layers: Literal["auto", "all"] | Annotated[WholeNumber, Field(ge=0)] = Field(
        default=0, description="auto, all, or a whole number, 0 or greater"
    )
    refresh: bool = Field(default=False, description="true or false")
    rewrite: bool = Field(default=True, description="true or false")
    mirror: bool = Field(default=True, description="true or false")
    nested: bool = Field(default=False, description="true or false")


class Split(Section):
    """Which photos are held out for validation and testing."""

    validation: Number = Field(
        default=0.1, ge=0, lt=1, description="a number from 0 up to, but not including, 1"
    )
    test: Number = Field(
        default=0.1, ge=0, lt=1, description="a number from 0 up to, but not including, 1"
    )
    folders: bool = Field(default=True, description="true or false")


class Training(Section):
    """A training recipe and its settings; a setting is None if it is not given."""

    recipe: Literal["optimum", "coral", "imprinting"] = Field(
        default="optimum", description="optimum, coral or imprinting"
    )
    class_weights: Literal["auto", "none", "balanced"] | None = Field(
        default=None, description="auto, none or balanced"
    )
    pseudo_labels: bool | None = Field(default=None, description="true or false")
    num_iter: WholeNumber | None = Field(
        default=None, ge=1, description="a whole number, 1 or greater"
    )
    batch_size: WholeNumber | None = Field(
        default=None, ge=1, description="a whole number, 1 or greater"
    )
    learning_rate: Number | None = Field(default=None, gt=0, description="a number greater than 0")
    weight_scale: Number | None = Field(default=None, ge=0, description="a number, 0 or greater")
    reg: Number | None = Field(default=None, ge=0, description="a number, 0 or greater")


class ComparisonEntry(Section, extra="allow"):
    """An entry of `compare`: a backbone and a recipe, or the description of a backbone."""

    backbone: str | dict[str, Any] | None = Field(default=None, description="a backbone")
    training: Training | None = Field(
        default=None, description="a mapping with the key recipe and the settings of that recipe"
    )
    fine_tune: FineTuning | None = Field(
        default=None, description="a mapping with keys of fine_tune, such as layers"
    )


class CompilerSource(Section):
    """A URL to download edgetpu_compiler from, with a checksum."""

    url: Url = Field(description="an http(s) URL")
    sha256: Sha256 | None = Field(default=None, description=_SHA256)
    md5: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{32}\Z", description="32 hexadecimal digits in quotes"
    )

    @model_validator(mode="after")
    def _is_verified(self) -> Self:
        if not (self.sha256 or self.md5):
            raise ValueError("no checksum")
        return self


class Compiler(Section):
    """Where to find edgetpu_compiler and how to run it."""

    path: str | None = Field(default=None, description="the path of edgetpu_compiler")
    sources: list[CompilerSource] = Field(
        default_factory=list, description="a list of mappings with the keys url and sha256 (or md5)"
    )
    timeout: WholeNumber = Field(
        default=180, ge=1, description="a whole number of seconds, 1 or greater"
    )
    min_runtime_version: WholeNumber | None = Field(
        default=None, ge=10, le=14, description="a whole number from 10 to 14"
    )
    allow_cpu_operators: bool = Field(default=False, description="true or false")


class Bundle(Section):
    """What the bundle contains besides the model."""

    embeddings: bool = Field(default=True, description="true or false")


class Settings(Section):
    """The whole configuration, with defaults for keys that are not given."""

    dataset: _Text | None = Field(
        default=None, description="text: a name, a folder, an archive, a URL or a table"
    )
    unlabelled: _Text | list[_Text] = Field(
        default_factory=list,
        description="the path of a folder or archive of photos, or a list of such paths",
    )
    dataset_sha256: str | None = Field(
        default=None, pattern=r"^[0-9a-fA-F]{64}\Z", description=_SHA256
    )
    corrections: str | None = Field(
        default=None, description="text: the path of a corrections.tsv file"
    )
    test_dataset: _Text | None = Field(
        default=None, description="text: the path of a folder of photos"
    )
    none: Literal[False, "auto"] = Field(default=False, description="auto or false")
    strangers: _Text | None = Field(
        default=None, description="text: the path of a folder of photos of other things"
    )
    backbone: str | dict[str, Any] = Field(
        description="the name of a backbone, or a mapping that describes one of your own"
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|usb|pci|(usb|pci):[0-9]+)\Z",
        description="auto, cpu, usb, pci, usb:N or pci:N",
    )
    bundle: Bundle = Field(default_factory=Bundle, description="a mapping with the key embeddings")
    frigate: str | None = Field(
        default=None,
        pattern=FRIGATE_NAME,
        description=(
            "the name of a custom classification in Frigate: not a number, no dot at the start, "
            "none of / \\ { }"
        ),
    )
    resize: Literal["bilinear", "nearest"] = Field(
        default="bilinear", description="bilinear or nearest"
    )
    calibration: Calibration = Field(
        default_factory=Calibration, description="a mapping with the keys photos and refresh"
    )
    fine_tune: FineTuning = Field(
        default_factory=FineTuning,
        description="a mapping with the keys layers, refresh, rewrite, mirror and nested",
    )
    split: Split = Field(
        default_factory=Split, description="a mapping with the keys validation, test and folders"
    )
    seed: WholeNumber = Field(default=0, ge=0, description="a whole number, 0 or greater")
    shards: Literal["auto"] | Annotated[WholeNumber, Field(ge=1, le=1000)] = Field(
        default="auto", description="auto, or a whole number from 1 to 1000"
    )
    max_skipped: Number = Field(default=0.1, ge=0, le=1, description="a number from 0 to 1")
    training: Training = Field(
        default_factory=Training,
        description="a mapping with the key recipe and the settings of that recipe",
    )
    compare: list[str | ComparisonEntry] = Field(
        default_factory=list,
        description=(
            "a list of backbones, or of mappings with the keys backbone, training and fine_tune"
        ),
    )
    compiler: Compiler = Field(
        default_factory=Compiler, description="a mapping with settings for edgetpu_compiler"
    )

    @classmethod
    def parse(cls, config: Any) -> Self:
        """Validates a configuration.

        Raises:
            UserError: keys are missing or unknown, values are invalid, or keys contradict each
                other.
        """
        settings = messages.parse(cls, config)
        if not (settings.dataset or settings.unlabelled):
            raise UserError(
                "config: dataset is missing. Name your photos there, or under unlabelled if they "
                "are not sorted into classes yet."
            )
        if settings.strangers and not settings.none:
            raise UserError(
                "config: strangers is only used with none: auto, which adds a class none that the "
                "photos in this folder should get. Set none: auto, or remove strangers."
            )
        entries = [one for one in settings.compare if isinstance(one, ComparisonEntry)]
        trainings = [settings.training, *(one.training for one in entries if one.training)]
        if any(one.pseudo_labels for one in trainings) and not settings.unlabelled:
            raise UserError(
                "config: training.pseudo_labels is only used with unlabelled, which names the "
                "photos without a label to learn from. Set unlabelled, or remove pseudo_labels."
            )
        validation, test = settings.split.validation, settings.split.test
        if validation + test >= 1:
            raise UserError(
                f"config: split.validation ({validation}) and split.test ({test}) leave no photos "
                "to train on; their sum must be less than 1."
            )
        return settings
