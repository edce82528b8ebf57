"""Evaluates the finished model.

Turns predictions into accuracy with a confidence interval, calibration, thresholds and the
confusion matrix.
"""
