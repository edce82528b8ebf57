"""Fine-tune the last layers of an extractor on the user's photos, without changing its scales.

In comes an extractor, its embeddings and the photos; out comes an extractor with other weights.
"""
