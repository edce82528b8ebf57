"""Reads and edits .tflite files: cuts off, appends or adapts the last layer.

FlatBuffers are used only in this package. Parts of a model have the names of the TFLite schema
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""
