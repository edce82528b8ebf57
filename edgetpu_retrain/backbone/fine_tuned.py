"""A backbone whose last layers are fine-tuned on the photos of the dataset."""

from typing import Literal

from edgetpu_retrain.backbone.kinds import Backbone, Extractor


class FineTuned(Backbone):
    """A backbone whose last layers are fine-tuned. It is not in the catalogue, but made from one.

    Attributes:
        base: the backbone.
        layers: number of layers to fine-tune, or "auto".
        rewritten: whether the weights are put into the compiled extractor of `base`.
        nested: whether the photos that it is fine-tuned on are judged by other networks.
    """

    KIND = "fine_tuned"
    FILE_NAME = Extractor.FILE_NAME
    ENVIRONMENT = "tensorflow"
    EXTRAS = ("tensorflow",)
    FINE_TUNED = True

    base: Backbone
    layers: int | Literal["auto"]
    rewritten: bool
    nested: bool

    @classmethod
    def of(
        cls, base: Backbone, layers: int | Literal["auto"], rewritten: bool, nested: bool
    ) -> "FineTuned":
        """Returns a fine-tuned version of `base`."""
        return cls(
            name=f"{base.name[:80]}-fine_tuned_{layers}",
            source=base.source,
            width=base.width,
            base=base,
            layers=layers,
            rewritten=rewritten and base.compiled is not None,
            nested=nested,
        )

    @property
    def needs_compiler(self) -> bool:  # noqa: D102
        return not self.rewritten


def is_nested(backbone: Backbone) -> bool:
    """Returns whether the photos that a backbone is fine-tuned on are judged by other networks."""
    return isinstance(backbone, FineTuned) and backbone.nested
