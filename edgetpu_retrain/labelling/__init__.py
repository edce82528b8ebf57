"""Suggests labels for photos that have none, and records what a person decides.

In go the embeddings of all photos and a person's clicks; out come labels in the corrections file.
"""
