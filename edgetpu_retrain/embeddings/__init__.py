"""Computes the embeddings of photos.

Embeddings are stored in shards by photo identity, and joined with the classes and splits of the
manifest for training.
"""
