"""Retrain the last layer of a quantized image classifier for Coral's Edge TPU."""

from typing import TYPE_CHECKING, Any

from edgetpu_retrain.errors import UserError

if TYPE_CHECKING:
    from edgetpu_retrain.training.imprinting import ImprintingEngine
    from edgetpu_retrain.training.softmax_regression import SoftmaxRegression

__all__ = ["ImprintingEngine", "SoftmaxRegression", "UserError"]


def __getattr__(name: str) -> Any:
    # Imported lazily, so that low-level modules do not load scikit-learn and the training code.
    if name == "ImprintingEngine":
        from edgetpu_retrain.training.imprinting import ImprintingEngine

        return ImprintingEngine
    if name == "SoftmaxRegression":
        from edgetpu_retrain.training.softmax_regression import SoftmaxRegression

        return SoftmaxRegression
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
