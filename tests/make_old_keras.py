"""Makes files as Keras 2 wrote them, with tf_keras, in one process.

    python -m tests.make_old_keras OUT

OUT gets:

    keras_model.h5  built as Teachable Machine builds it, with what Keras 3 does not take
    scores.npy      what it gives for the picture in picture.npy
    lambda.h5       with a Lambda layer
    module.h5       names a function of the module os
"""

import json
import sys
from pathlib import Path

import h5py
import numpy as np

SIZE = 32


def main(out: Path) -> None:
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(0)
    base = tf_keras.applications.MobileNetV2(
        (SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None
    )
    head = [layers.Dense(100, "relu"), layers.Dense(3, "softmax", use_bias=False)]
    model = tf_keras.Sequential(
        [
            tf_keras.Sequential([base, layers.GlobalAveragePooling2D()]),
            tf_keras.Sequential(head),
        ]
    )
    picture = np.random.default_rng(0).uniform(-1, 1, (SIZE, SIZE, 3)).astype(np.float32)
    np.save(out / "picture.npy", picture)
    np.save(out / "scores.npy", np.asarray(model(picture[np.newaxis]))[0])
    save(model, out / "keras_model.h5", lambda text: text)
    image = layers.Input((SIZE, SIZE, 3))
    doubled = layers.Lambda(lambda x: 2 * x)(layers.GlobalAveragePooling2D()(image))
    save(tf_keras.Model(image, layers.Dense(3)(doubled)), out / "lambda.h5", lambda text: text)
    save(model, out / "module.h5", lambda text: text.replace('"keras.initializers"', '"os"'))


def save(model, path: Path, change) -> None:
    model.save(path)
    with h5py.File(path, "r+") as file:
        text = change(json.dumps(json.loads(file.attrs["model_config"])))
        # Keras 2.4 wrote this argument; Keras 3 refuses it.
        text = text.replace('"depth_multiplier": 1', '"depth_multiplier": 1, "groups": 1')
        file.attrs["model_config"] = text
        file.attrs["keras_version"] = "2.4.0"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
