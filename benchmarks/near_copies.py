"""How many planted near-copies are found, and how many others.

Every third photo is copied: re-encoded, resized, brightened, cropped, turned a little, mirrored.
Per kind of copy, prints the share that is found beside all photos. What is found among the photos
themselves is listed, to be looked at. The thresholds in `edgetpu_retrain.training.near_copies`
were chosen by what this prints.

    python benchmarks/near_copies.py --photos flower_photos --extractor extractor.tflite
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from edgetpu_retrain.photos import perceptual_hash, preprocessing
from edgetpu_retrain.photos.decode import read_photo
from edgetpu_retrain.photos.walk import find_photos
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.training import near_copies

EVERY = 3


def changed(photo: Image.Image) -> dict[str, Image.Image]:
    width, height = photo.size
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=50)
    rim = (width // 20, height // 20, width - width // 20, height - height // 20)
    return {
        "re-encoded": Image.open(file).convert("RGB"),
        "resized to 2/3": photo.resize((width * 2 // 3, height * 2 // 3), Image.Resampling.LANCZOS),
        "brightened by 1/5": ImageEnhance.Brightness(photo).enhance(1.2),
        "cropped by 1/10": photo.crop(rim),
        "cropped at a corner": photo.crop((0, 0, width - width // 10, height - height // 10)),
        "turned by 3 degrees": photo.rotate(3, Image.Resampling.BICUBIC).crop(rim),
        "mirrored": photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder per class in it")
    parser.add_argument("--extractor", type=Path, required=True, help="an extractor for the CPU")
    arguments = parser.parse_args()
    extractor = Interpreter(arguments.extractor, "cpu")

    def look(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
        pixels = preprocessing.to_pixels(picture, extractor.input_size)
        return extractor.run(pixels), perceptual_hash.perceptual_hash(picture)

    paths = [path for path, _ in find_photos(arguments.photos)]
    originals, planted = [], {}
    for i, path in enumerate(paths):
        photo = read_photo(Path(path).read_bytes())
        originals.append(look(photo))
        if i % EVERY == 0:
            for kind, picture in changed(photo).items():
                planted.setdefault(kind, []).append(look(picture))
    pairs, likeness = near_copies.near_copies(*map(np.array, zip(*originals, strict=True)))
    print(f"{len(pairs)} pairs among {len(paths)} photos:")
    for (first, second), like in zip(pairs.tolist(), likeness.tolist(), strict=True):
        print(f"  {like:.2f} {paths[first]} {paths[second]}")
    wanted = {(EVERY * k, len(paths) + k) for k in range(len(paths[::EVERY]))}
    for kind, rows in planted.items():
        found, _ = near_copies.near_copies(*map(np.array, zip(*originals, *rows, strict=True)))
        found = set(map(tuple, found.tolist()))
        print(
            f"{kind}: {len(found & wanted)} of {len(wanted)} found, "
            f"{len(found - wanted) - len(pairs)} pairs besides"
        )


if __name__ == "__main__":
    main()
