"""Labelled embeddings go in.

Out come a head, and predictions for each photo by heads that were trained without it.
"""
