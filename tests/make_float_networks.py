"""Makes small float networks with TensorFlow, in one process.

    python -m tests.make_float_networks OUT

OUT gets:

    odd.tflite        hard-swish, leaky and parametric ReLU, ReLU6 by itself, squeezed and expanded
                      shapes, and a shape that is computed for a batch of unknown size
    largest.tflite    ends in the largest value of every channel
    smallest.tflite   MINIMUM, which the quantizer does not know
    half.tflite       SPLIT with an unused half, which the quantizer stumbles over
    headed.tflite     a hidden layer of 4 values between the pooled vector and the last layer
    headed_int8.tflite  the same, quantized by TensorFlow
    widened.tflite    with one of 20 values, more than the pooled vector has
    grey.tflite       takes a grey image
    grey_int8.tflite  the same, quantized by TensorFlow, float at both ends
    channels_first.tflite  takes [1, 3, 16, 16]
    two.keras, two.tflite  two outputs
    nan.tflite        a weight that is not a number
    good.keras, good.h5, good/   the same classifier, as Keras and as TensorFlow save it
    scores.npy        what it gives for the picture in picture.npy
    refused.json      what keras_network says of networks that it refuses, by name
"""

import contextlib
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

SIZE = 16


def main(out: Path) -> None:
    import keras
    import tensorflow as tf

    from edgetpu_retrain.backbone import keras_network

    keras.utils.set_random_seed(0)
    layers = keras.layers
    image = layers.Input((SIZE, SIZE, 3))

    def network(activation="relu", image=image):
        x = layers.Conv2D(8, 3, strides=2, activation=activation)(image)
        return layers.GlobalAveragePooling2D()(x)

    def convert(model: keras.Model, name: str) -> None:
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        (out / f"{name}.tflite").write_bytes(content)

    x = layers.Conv2D(6, 3, strides=2, activation="hard_silu")(image)
    y = layers.LeakyReLU(0.2)(layers.DepthwiseConv2D(3, padding="same")(x))
    slopes = keras.initializers.RandomUniform(0.1, 0.9)
    y = layers.PReLU(slopes, shared_axes=[1, 2])(layers.DepthwiseConv2D(3, padding="same")(y))
    x = layers.ReLU(6.0)(layers.Concatenate()([4 * x, y]))
    x = layers.AveragePooling2D(7)(x)
    x = tf.keras.ops.expand_dims(tf.keras.ops.squeeze(x, axis=(1, 2)), 1)
    x = layers.Dense(7, activation="relu")(layers.Flatten()(x))
    convert(keras.Model(image, layers.Dense(3, activation="softmax")(x)), "odd")
    x = layers.Conv2D(6, 3, activation="relu")(image)
    convert(keras.Model(image, layers.Dense(3)(layers.GlobalMaxPooling2D()(x))), "largest")

    for name, part in (
        ("smallest", lambda x: tf.keras.ops.minimum(x, 0.5)),
        ("half", lambda x: tf.keras.ops.split(x, 2, axis=-1)[0]),
    ):
        x = layers.Conv2D(6, 3)(part(layers.Conv2D(6, 3)(image)))
        convert(keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))), name)

    x = layers.Dense(4, activation="relu")(network())
    headed = keras.Model(image, layers.Dense(3, activation="softmax")(x))
    convert(headed, "headed")
    (out / "headed_int8.tflite").write_bytes(quantized(tf, headed))
    x = layers.Dense(20, activation="relu")(network())
    convert(keras.Model(image, layers.Dense(3)(x)), "widened")
    first = layers.Input((3, SIZE, SIZE))
    x = network(image=layers.Permute((2, 3, 1))(first))
    convert(keras.Model(first, layers.Dense(3)(x)), "channels_first")
    two = keras.Model(image, [layers.Dense(3)(network()), layers.Dense(4)(network())])
    two.save(out / "two.keras")
    convert(two, "two")
    grey = layers.Input((SIZE, SIZE, 1))
    grey = keras.Model(grey, layers.Dense(3, activation="softmax")(network(image=grey)))
    convert(grey, "grey")
    (out / "grey_int8.tflite").write_bytes(quantized(tf, grey))
    diverged = keras.Model(image, layers.Dense(3)(network()))
    weights = diverged.get_weights()
    weights[0][0, 0, 0, 0] = np.nan
    diverged.set_weights(weights)
    convert(diverged, "nan")

    good = keras.Model(image, layers.Dense(3, activation="softmax")(network()))
    good.save(out / "good.keras")
    good.save(out / "good.h5")
    tf.saved_model.save(good, str(out / "good"))
    picture = np.random.default_rng(0).uniform(-1, 1, (SIZE, SIZE, 3)).astype(np.float32)
    np.save(out / "picture.npy", picture)
    np.save(out / "scores.npy", np.asarray(good(picture[np.newaxis]))[0])

    class Own(layers.Layer):
        def call(self, x):
            return 2 * x

    steps = layers.Input((10, 8))
    sizes = layers.Input((None, None, 3))
    refused = {
        "own layer": keras.Model(image, layers.Dense(3)(Own()(network()))),
        "lambda": keras.Model(image, layers.Dense(3)(layers.Lambda(lambda x: 2 * x)(network()))),
        "any size": keras.Model(sizes, layers.Dense(3)(network(image=sizes))),
        "steps": keras.Model(steps, layers.Dense(3)(layers.LSTM(4)(steps))),
        "never built": keras.Sequential([layers.Conv2D(8, 3), layers.Dense(3)]),
    }
    said = {}
    for name, model in refused.items():
        model.save(out / "refused.keras")
        said[name] = refusal(keras_network, out / "refused.keras")
    good.save_weights(out / "only.weights.h5")
    said["weights"] = refusal(keras_network, out / "only.weights.h5")
    with (
        zipfile.ZipFile(out / "good.keras") as source,
        zipfile.ZipFile(out / "refused.keras", "w") as old,
    ):
        # As Keras 2 did: it says its version, and knows other arguments.
        for name in source.namelist():
            content = source.read(name).replace(b'"filters"', b'"filters_of_old"')
            if name == "metadata.json":
                content = json.dumps({"keras_version": "2.13.1"}).encode()
            old.writestr(name, content)
    said["Keras 2"] = refusal(keras_network, out / "refused.keras")
    (out / "refused.keras").write_text("not a network")
    said["text"] = refusal(keras_network, out / "refused.keras")
    (out / "empty").mkdir()
    said["empty folder"] = refusal(keras_network, out / "empty")
    said |= {name: refusal(keras_network, path) for name, path in writers(tf, good, out).items()}
    # As where it is not installed.
    sys.modules["tf_keras"] = None
    said["old"] = refusal(keras_network, old_keras(good, out / "keras_model.h5"))
    (out / "refused.json").write_text(json.dumps(said))


def writers(tf, network, out: Path) -> dict[str, Path]:
    """SavedModels that write `written` into OUT where they are loaded or run, by name."""
    name, target = str(out / "written"), tf.TensorSpec([1, SIZE, SIZE, 3])

    class Resource(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self):
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self):
            tf.io.write_file(name, "by the initializer")

    class Network(tf.Module):
        def __init__(self, resource=None):
            super().__init__()
            self.network, self.resource = network, resource

        @tf.function(input_signature=[target])
        def quiet(self, image):
            if self.resource is not None:
                _ = self.resource.resource_handle
            return self.network(image)

        @tf.function(input_signature=[target])
        def loud(self, image):
            tf.io.write_file(name, "by the signature")
            return self.network(image)

    folders = {n: out / n for n in ("initializer", "signature", "main operator")}
    module = Network(Resource())
    tf.saved_model.save(module, str(folders["initializer"]), signatures=module.quiet)
    module = Network()
    tf.saved_model.save(module, str(folders["signature"]), signatures=module.loud)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.compat.v1.placeholder(tf.float32, target.shape)
        weights = tf.compat.v1.get_variable("weights", [3, 4])
        scores = tf.matmul(tf.reduce_mean(image, [1, 2]), weights)
        session.run(tf.compat.v1.global_variables_initializer())
        builder = tf.compat.v1.saved_model.Builder(str(folders["main operator"]))
        signature = tf.compat.v1.saved_model.predict_signature_def({"x": image}, {"y": scores})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            main_op=tf.io.write_file(name, "by the main operator"),
        )
        builder.save()
    assert not (out / "written").exists()
    return folders


def old_keras(network, path: Path) -> Path:
    """An .h5 file that says of itself what Keras 2.2 to 2.4 did, and that Keras 3 cannot read."""
    import h5py

    network.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["groups_of_old"] = 1
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = "2.4.0"
    return path


def quantized(tf, model) -> bytes:
    """A network after TensorFlow's quantization as its guide has it, with the ends left float."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    pictures = np.random.default_rng(0).uniform(0, 1, (50, 1, *model.input_shape[1:]))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x] for x in pictures.astype(np.float32))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def refusal(keras_network, network: Path) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert keras_network.main(network, network.with_name("refused.tflite")) != 0
    return printed.getvalue().strip().splitlines()[-1]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
