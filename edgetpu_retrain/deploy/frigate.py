"""Writes the files that a custom classification model of Frigate consists of."""

import shutil
from pathlib import Path

import yaml

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import read_label_map
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.model import Model

FILE_NAMES = ("model.tflite", "labelmap.txt", "config.yml")
# Frigate resizes every picture to this shape, whatever the model's input is, and passes uint8.
_INPUT_SHAPE = (1, 224, 224, 3)
_CONFIG = """\
# Merge this into Frigate's config.yml, below keys that exist there already, and restart Frigate.
# Frigate sets no sub label for the class `none`.
{classification}\
      # To classify tracked objects of these types:
      object_config:
        objects: [dog]
        classification_type: sub_label # or attribute
      # To classify a region of a camera's picture instead (left, top, right, bottom, from 0 to 1):
      # state_config:
      #   motion: true
      #   interval: 10 # seconds
      #   cameras:
      #     front_door:
      #       crop: [0.0, 0.2, 0.5, 0.8]
"""


def write_folder(model: str | Path, label_map: str | Path, name: str, folder: str | Path) -> None:
    """Writes model.tflite, labelmap.txt and config.yml for a custom classification in Frigate.

    Frigate 0.17 runs these models on the CPU, without the Edge TPU delegate.

    Args:
        model: path of the CPU model.
        label_map: path of its label map.
        name: name of the classification in Frigate.
        folder: the folder to write to; other files in it are kept.

    Raises:
        UserError: Frigate cannot run this model.
    """
    parsed = Model.load(model)
    if parsed.is_compiled:
        raise parsed.error(
            "is compiled for the Edge TPU, but Frigate runs its classifications on the CPU. Use "
            "the model without '_edgetpu' in its name."
        )
    image = parsed.inputs[0]
    if (image.shape, image.dtype) != (_INPUT_SHAPE, "uint8"):
        raise UserError(
            f"{model} takes {image.dtype} {list(image.shape)}, but Frigate passes uint8 pictures "
            "of 224 x 224 pixels. Use a backbone with this input size, such as "
            "mobilenet_v1_1.0_224 (`make backbones` lists the backbones)."
        )
    labels = read_label_map(label_map)
    entry = {"classification": {"custom": {name: {"name": name, "threshold": 0.8}}}}
    with files.replacing(Path(folder, "model.tflite")) as temporary:
        shutil.copyfile(model, temporary)
    with files.replacing(Path(folder, "labelmap.txt")) as temporary:
        temporary.write_text("".join(f"{labels[i]}\n" for i in range(len(labels))), "utf-8")
    with files.replacing(Path(folder, "config.yml")) as temporary:
        lines = yaml.safe_dump(entry, sort_keys=False, allow_unicode=True)
        temporary.write_text(_CONFIG.format(classification=lines), encoding="utf-8")
