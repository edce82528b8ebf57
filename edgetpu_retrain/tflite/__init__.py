"""Look into .tflite files, cut their last layer off, append one; all that knows FlatBuffers.

Parts of a model are named as TFLite's schema names them
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs).
"""
