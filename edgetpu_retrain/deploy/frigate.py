"""What Frigate's custom classification reads: a folder of its own form."""

import shutil
from pathlib import Path

import yaml

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.head import read_label_map
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.model import Model

NAMES = ("model.tflite", "labelmap.txt", "config.yml")
# Frigate brings every picture to this size, whatever the model's is, in uint8.
_SHAPE = (1, 224, 224, 3)
_CONFIG = """\
# Add this to Frigate's config.yml (below the keys that are there already), and restart Frigate.
# The class `none`, if there is one, gives no sub label.
{classification}\
      # For tracked objects of these kinds:
      object_config:
        objects: [dog]
        classification_type: sub_label # or attribute
      # For a region of a camera's picture instead (left, top, right, bottom, from 0 to 1):
      # state_config:
      #   motion: true
      #   interval: 10 # seconds
      #   cameras:
      #     front_door:
      #       crop: [0.0, 0.2, 0.5, 0.8]
"""


def write_folder(model: str | Path, label_map: str | Path, name: str, folder: str | Path) -> None:
    """Writes model.tflite, labelmap.txt and config.yml for a custom classification of Frigate's.

    Frigate (0.17) runs the model on the CPU, without the Edge TPU's delegate.

    Args:
        model: the classifier for the CPU.
        label_map: its label map.
        name: of the classification in Frigate.
        folder: where to; other files in it stay.

    Raises:
        UserError: Frigate cannot run this model.
    """
    parsed = Model.load(model)
    if parsed.is_compiled:
        raise parsed.error(
            "is compiled for the Edge TPU, and Frigate runs its classifications on the CPU. Take "
            "the model whose name lacks '_edgetpu'."
        )
    image = parsed.inputs[0]
    if (image.shape, image.dtype) != (_SHAPE, "uint8"):
        raise UserError(
            f"{model} takes {image.dtype} {list(image.shape)}; Frigate gives its classifications "
            "uint8 pictures of 224 x 224 pixels. Take a backbone of that size, as "
            "mobilenet_v1_1.0_224 (`make backbones` lists them)."
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
