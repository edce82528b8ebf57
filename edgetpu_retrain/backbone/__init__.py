"""A pre-trained network of any kind goes in.

Out comes an embedding extractor, for the CPU and compiled for the Edge TPU.
"""
