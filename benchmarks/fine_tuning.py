"""What fine-tuning is worth on pictures that are more and more unlike photos of ImageNet.

    python -m benchmarks.fine_tuning --photos flower_photos --extractor extractor.tflite

The sets: flowers; the same photos turned by a multiple of 90 degrees, to tell how; grey parts of
them with a scratch, a spot, a blur or noise, to tell which; scikit-learn's digits, enlarged. Test
photos take no part in training and fine-tuning.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sklearn.datasets
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.labelled_embeddings import TEST, LabelledEmbeddings
from edgetpu_retrain.fine_tuning.fine_tune import fine_tune, read_tuned_on
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.training import recipes

TRAINED = 600
SIZE = 224
# Damaged parts for training and for testing, of each kind.
PARTS = {"train": 120, "test": 200}
DAMAGES = ("none", "scratch", "spot", "blur", "noise")
# Where left and right make a difference.
ONE_SIDED = {"turned", "digits"}

Picture = tuple[str, str, Image.Image]


def flowers(paths: dict[str, list[Path]], random: np.random.Generator) -> Iterator[Picture]:
    for split, listed in paths.items():
        for path in listed:
            yield split, path.parent.name, Image.open(path).convert("RGB")


def turned(paths: dict[str, list[Path]], random: np.random.Generator) -> Iterator[Picture]:
    for split, _, photo in flowers(paths, random):
        angle = 90 * int(random.integers(4))
        yield split, str(angle), ImageOps.fit(photo, (SIZE, SIZE)).rotate(angle)


def damaged(paths: dict[str, list[Path]], random: np.random.Generator) -> Iterator[Picture]:
    for split, number in PARTS.items():
        for kind in DAMAGES:
            for path in random.choice(np.array(paths[split], object), number):
                photo = ImageOps.fit(Image.open(path).convert("L"), (400, 400))
                left, top = random.integers(0, 400 - SIZE, 2).tolist()
                part = photo.crop((left, top, left + SIZE, top + SIZE))
                yield split, kind, damage(part, kind, random).convert("RGB")


def damage(part: Image.Image, kind: str, random: np.random.Generator) -> Image.Image:
    x, y = random.uniform(40, SIZE - 40, 2).tolist()
    tone = int(np.clip(np.asarray(part).mean() + random.choice([-90, 90]), 0, 255))
    draw = ImageDraw.Draw(part)
    if kind == "scratch":
        angle, length = random.uniform(0, np.pi), random.uniform(20, 60)
        end = (x + length * np.cos(angle), y + length * np.sin(angle))
        draw.line((x, y, *end), fill=tone, width=int(random.integers(1, 4)))
    elif kind == "spot":
        draw.circle((x, y), random.uniform(3, 9), fill=tone)
    elif kind in ("blur", "noise"):
        half = int(random.integers(15, 30))
        box = (int(x) - half, int(y) - half, int(x) + half, int(y) + half)
        inner = part.crop(box)
        if kind == "blur":
            changed = inner.filter(ImageFilter.GaussianBlur(3))
        else:
            noisy = np.asarray(inner) + random.normal(0, 22, (2 * half, 2 * half))
            changed = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        part.paste(changed, box)
    return part


def digits(paths: dict[str, list[Path]], random: np.random.Generator) -> Iterator[Picture]:
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    for i, row in enumerate(random.permutation(len(labels)).tolist()):
        ink = (255 - 15.9 * images[row].reshape(8, 8)).astype(np.uint8)
        picture = Image.fromarray(ink).resize((96, 96), Image.Resampling.BICUBIC).convert("RGB")
        yield "train" if i < TRAINED else "test", str(labels[row]), picture


def embedded(photos: list[Photo], extractor: Path) -> LabelledEmbeddings:
    shard = dict(sorted((photo.sha256, photo.path) for photo in photos))
    return LabelledEmbeddings.join([embed(shard, extractor, "cpu", num_threads=2)], photos)


def accuracy(labelled: LabelledEmbeddings, tuned_on: list[str]) -> float:
    tested = labelled.select(labelled.splits == TEST)
    head = recipes.train(labelled, recipes.DEFAULT, 0, 2, tuned_on).head
    return float(np.mean(head.logits(tested[:]).argmax(axis=1) == tested.labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder per class")
    parser.add_argument("--extractor", type=Path, required=True)
    parser.add_argument("--layers", default="auto")
    parser.add_argument("--sets", nargs="*", default=["flowers", "turned", "damaged", "digits"])
    arguments = parser.parse_args()
    layers = int(arguments.layers) if arguments.layers.isdigit() else arguments.layers
    every = sorted(arguments.photos.glob("*/*.jpg"))
    order = np.random.default_rng(0).permutation(len(every))
    shuffled = [every[i] for i in order.tolist()]
    paths = {"train": shuffled[:TRAINED], "test": shuffled[TRAINED:]}
    for name in arguments.sets:
        with tempfile.TemporaryDirectory() as temporary:
            folder, photos = Path(temporary), {}
            made = globals()[name](paths, np.random.default_rng(0))
            for i, (split, label, picture) in enumerate(made):
                path = folder / f"{i}.png"
                picture.save(path)
                sha256 = files.sha256(path)
                photos.setdefault(sha256, Photo(str(path), label, split, sha256))
            listed = list(photos.values())
            before = embedded(listed, arguments.extractor)
            tuned, report, seen = (folder / one for one in ("tuned.tflite", "tuned.json", "seen"))
            start = time.perf_counter()
            fine_tune(
                arguments.extractor, before, tuned, report, seen, layers, name not in ONE_SIDED,
                num_threads=2,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            after = accuracy(embedded(listed, tuned), read_tuned_on(seen))
            print(
                f"{name}: {accuracy(before, []):.1%} -> {after:.1%} ({seconds:.0f} s)", flush=True
            )


if __name__ == "__main__":
    main()
