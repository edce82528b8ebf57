"""Makes embedding extractors from pre-trained networks of several kinds.

An extractor is made for the CPU, and compiled for the Edge TPU.
"""
