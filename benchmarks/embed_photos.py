"""Time to embed photos: the workflow, against the guide's loop, in the same run.

The guide's example script opens, resizes and embeds one photo after the other in one process. Its
loop is written out here with the same runtime and model; the workflow does the same by sharded
jobs, lists every photo with its identity before and trains the head after; then it takes in twenty
more photos.

    python benchmarks/embed_photos.py --photos flower_photos --extractor extractor.tflite
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

ROOT = Path(__file__).parent.parent
ADDED = 20


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder per class in it")
    parser.add_argument("--extractor", type=Path, required=True, help="an extractor for the CPU")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    return parser.parse_args()


def guide_loop(photos: list[Path], extractor: Path) -> float:
    """Embeds photos as the guide's script does; returns the seconds it took."""
    start = time.perf_counter()
    interpreter = Interpreter(model_path=str(extractor))
    interpreter.allocate_tensors()
    image, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    size = tuple(image["shape"][2:0:-1])
    scale, zero_point = output["quantization"]
    embeddings = np.empty((len(photos), output["shape"][-1]), np.float32)
    for row, path in zip(embeddings, photos, strict=True):
        with Image.open(path) as photo:
            pixels = np.asarray(photo.resize(size, Image.Resampling.NEAREST))
        interpreter.set_tensor(image["index"], pixels[np.newaxis])
        interpreter.invoke()
        quantized = interpreter.get_tensor(output["index"]).ravel()
        row[:] = scale * (quantized.astype(np.float32) - zero_point)
    return time.perf_counter() - start


def workflow(folder: Path, photos: Path, extractor: Path, cores: int) -> float:
    """Runs the workflow as far as the trained head; returns the seconds it took."""
    entry = f"{{name: benchmark, extractor: {extractor}}}"
    start = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"),
            *("--configfile", ROOT / "config.yaml", "--directory", folder, "--cores", str(cores)),
            *("--workflow-profile", ROOT / "profiles/default", "--config"),
            *(f"dataset={photos}", f"backbone={entry}", "device=cpu"),
            *("--", "results/photos/benchmark/head.npz"),
        ],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - start


def main() -> None:
    arguments = parse_arguments()
    extractor = arguments.extractor.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        shutil.copytree(arguments.photos, photos)
        later = sorted(photos.glob("*/*.jpg"))[:: len(list(photos.glob("*/*.jpg"))) // ADDED][
            :ADDED
        ]
        for path in later:
            path.rename(folder / path.name)
        paths = sorted(photos.glob("*/*.jpg"))
        guide = guide_loop(paths, extractor)
        first = workflow(folder, photos, extractor, arguments.cores)
        for path in later:
            (folder / path.name).rename(path)
        again = workflow(folder, photos, extractor, arguments.cores)
        guide_again = guide_loop(sorted(photos.glob("*/*.jpg")), extractor)
    print(f"{len(paths)} photos, {arguments.cores} cores")
    print(f"{'':24}{'guide':>10}{'workflow':>10}{'ratio':>8}")
    for what, old, new in (
        ("all photos", guide, first),
        (f"{ADDED} photos more", guide_again, again),
    ):
        print(f"{what:24}{old:>9.1f}s{new:>9.1f}s{new / old:>8.2f}")


if __name__ == "__main__":
    main()
