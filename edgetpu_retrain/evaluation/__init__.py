"""Predictions and the finished model go in.

Out come figures: accuracy with its interval, calibration, thresholds, the confusion matrix.
"""
