"""Trains a head on labelled embeddings, and cross-validates it.

Each photo's out-of-fold prediction is from a head that was trained without the photo.
"""
