"""Retrain the last layer of a quantized image classifier for Coral's Edge TPU."""

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.softmax_regression import SoftmaxRegression

__all__ = ["SoftmaxRegression", "UserError"]
