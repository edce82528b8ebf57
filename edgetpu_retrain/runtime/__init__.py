"""A .tflite file and pixels go in.

Out comes what the network says, on the CPU or an Edge TPU; only this package knows which runtime is
installed.
"""
