"""Makes small real models of the sample's frozen graph, with TensorFlow, in one process.

    python -m tests.make_models FROZEN_GRAPH PHOTOS OUT

PHOTOS is a folder with a folder per class. OUT gets:

    classifier.tflite  the whole network, quantization-aware: uint8, one scale per tensor
    extractor.tflite   the same as far as its embedding, as Coral's guide converts it
    scaled.tflite      the same with an input of scale 0.0125 and zero point 131, near to those of
                       the EfficientNets
    int8.tflite        the whole network without its FakeQuant nodes, quantized after training:
                       int8 with one scale per channel inside, uint8 at both ends
    float.tflite       the same, not quantized
    NAME_edgetpu.tflite  of extractor and scaled: stand-ins for what the compiler makes of them
"""

import sys
from pathlib import Path

import numpy as np

from tests import stand_ins
from tests.pictures import resized

INPUT = "input"
EMBEDDING = "MobilenetV1/Logits/AvgPool_1a/AvgPool"
SCORES = "MobilenetV1/Predictions/Reshape_1"


def main(frozen_graph: Path, photos: Path, out: Path) -> None:
    import tensorflow as tf

    for name, output, zero_point, values_per_unit in (
        ("classifier", SCORES, 128, 128),
        ("extractor", EMBEDDING, 128, 128),
        ("scaled", EMBEDDING, 131, 80),
    ):
        converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(
            str(frozen_graph), [INPUT], [output]
        )
        converter.inference_type = tf.uint8
        converter.quantized_input_stats = {INPUT: (zero_point, values_per_unit)}
        (out / f"{name}.tflite").write_bytes(converter.convert())

    graph = tf.compat.v1.GraphDef.FromString(frozen_graph.read_bytes())
    for node in graph.node:
        if node.op.startswith("FakeQuant"):
            node.op = "Identity"
            node.attr.clear()
            node.attr["T"].type = tf.float32.as_datatype_enum
            del node.input[1:]
    imported = tf.compat.v1.wrap_function(
        lambda: tf.graph_util.import_graph_def(graph, name=""), []
    )
    function = imported.prune(f"{INPUT}:0", f"{SCORES}:0")
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    (out / "float.tflite").write_bytes(converter.convert())
    paths = sorted(photos.glob("*/*.jpg"))[::10]
    pixels = (np.array([resized(path, 96) for path in paths], np.float32) - 128) / 128
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([photo[np.newaxis]] for photo in pixels)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (out / "int8.tflite").write_bytes(converter.convert())
    for name in ("extractor", "scaled"):
        compiled = stand_ins.compiled((out / f"{name}.tflite").read_bytes())
        (out / f"{name}_edgetpu.tflite").write_bytes(compiled)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
