"""A float extractor and a few of the user's photos go in.

Out comes an extractor quantized to int8, and how much that changed its embeddings.
"""
