"""Makes small real models of the sample's frozen graph, with TensorFlow, in one process.

    python -m tests.make_models OUT

OUT, a new folder, gets:

    classifier.tflite  the whole network, quantization-aware: uint8, one scale per tensor
    extractor.tflite   the same as far as its embedding, as Coral's guide converts it
    scaled.tflite      the same with an input of scale 0.0125 and zero point 131, near to those of
                       the EfficientNets
    int8.tflite        the whole network without its FakeQuant nodes, quantized after training:
                       int8 with one scale per channel inside, uint8 at both ends
    float.tflite       the same, not quantized
    NAME_edgetpu.tflite  of extractor and scaled: stand-ins for what the compiler makes of them
"""

import contextlib
import io
import sys
import zipfile
from pathlib import Path

import numpy as np

from tests.pictures import resized

SAMPLE = Path(__file__).parents[1] / "sample"
FROZEN_GRAPH = SAMPLE / "mobilenet_v1_0.25_96_quant_frozen.pb"
INPUT = "input"
EMBEDDING = "MobilenetV1/Logits/AvgPool_1a/AvgPool"
SCORES = "MobilenetV1/Predictions/Reshape_1"


def calibration() -> np.ndarray:
    """Every tenth photo of the sample that can be decoded, float32 [N, 96, 96, 3] in -1..1."""
    pictures = []
    with zipfile.ZipFile(SAMPLE / "photos.zip") as archive:
        for name in sorted(archive.namelist())[::10]:
            with contextlib.suppress(OSError):
                pictures.append(resized(io.BytesIO(archive.read(name)), 96))
    return (np.array(pictures, np.float32) - 128) / 128


def main(out: Path) -> None:
    import tensorflow as tf

    from tests import stand_ins

    out.mkdir(parents=True, exist_ok=True)
    for name, output, zero_point, values_per_unit in (
        ("classifier", SCORES, 128, 128),
        ("extractor", EMBEDDING, 128, 128),
        ("scaled", EMBEDDING, 131, 80),
    ):
        converter = tf.compat.v1.lite.TFLiteConverter.from_frozen_graph(
            str(FROZEN_GRAPH), [INPUT], [output]
        )
        converter.inference_type = tf.uint8
        converter.quantized_input_stats = {INPUT: (zero_point, values_per_unit)}
        (out / f"{name}.tflite").write_bytes(converter.convert())

    graph = tf.compat.v1.GraphDef.FromString(FROZEN_GRAPH.read_bytes())
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
    pixels = calibration()
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
    main(Path(sys.argv[1]))
