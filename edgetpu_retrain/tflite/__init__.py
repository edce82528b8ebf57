"""A .tflite file goes in.

Out comes one whose last layer was cut off, appended or adapted. Only this package knows
FlatBuffers; parts of a model are named as TFLite's schema names them
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""
