"""Photos and an extractor go in.

Out come their embeddings by photo identity: in shards, and joined with the manifest's classes and
splits.
"""
