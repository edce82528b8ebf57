"""Quantizes a float extractor to int8, calibrated on some of the user's photos.

A report says how much quantization changed the embeddings.
"""
