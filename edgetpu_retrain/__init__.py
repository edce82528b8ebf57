"""Retrain the last layer of a quantized image classifier for Coral's Edge TPU."""

from edgetpu_retrain import interrupt

interrupt.end_silently()

from edgetpu_retrain.errors import UserError  # noqa: E402
from edgetpu_retrain.imprinting import ImprintingEngine  # noqa: E402
from edgetpu_retrain.softmax_regression import SoftmaxRegression  # noqa: E402

__all__ = ["ImprintingEngine", "SoftmaxRegression", "UserError"]
