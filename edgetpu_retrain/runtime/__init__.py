"""Run .tflite models on the CPU or an Edge TPU.

The rest of the project does not depend on which TFLite runtime is installed.
"""
