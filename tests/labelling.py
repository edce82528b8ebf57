"""Photos to label of plain colours, and the page that is served for them, as a user starts it.

    python -m tests.labelling photos extractor.tflite docs/label.png

takes the picture of the page for the documentation, of the photos of the sample.
"""

import colorsys
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from edgetpu_retrain.embeddings.embed import embed
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.index import corrections, index, manifest, scan
from edgetpu_retrain.index.identity_cache import IdentityCache
from edgetpu_retrain.labelling.sources import Sources
from tests.conftest import ROOT

COLOURS = ("red", "green", "blue")


def lay_colours(folder: Path, count: int, prefix: str = "") -> dict[str, str]:
    """Lays so many photos of each colour into a folder; returns the colour by name."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for number, colour in enumerate(COLOURS):
        for i in range(count):
            rgb = colorsys.hsv_to_rgb(number / 3 + 0.02 * (i % 3), 1, 0.5 + 0.4 * i / count)
            pixels = 255 * np.array(rgb) + random.normal(0, 9, (48, 64, 3))
            name = f"{prefix}{number * count + i:05}.png"
            Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(folder / name)
            found[name] = colour
    return found


def embed_colours(shard: dict[str, str]) -> Embeddings:
    """Stands in for an extractor: the mean colour with noise, in 24 values."""
    random = np.random.default_rng(1)
    identities = list(shard)
    means = np.array([np.asarray(Image.open(shard[one])).mean(axis=(0, 1)) for one in identities])
    values = np.tile(means / 2, 8) + random.normal(0, 40, (len(means), 24))
    return Embeddings(
        np.clip(values, 0, 255).astype(np.uint8), 0.1, 0, np.array(identities, "S64"),
        random.integers(0, 256, (len(means), 32), np.uint8), "stand-in", "bilinear",
        np.array([], "S64"), np.array([], str),
    )  # fmt: skip


def prepare(
    folder: Path, heap: Path, root: Path | None = None, extractor: Path | None = None
) -> Sources:
    """Does what `snakemake label` does in a folder, for a heap of photos."""
    results = folder / "results"
    labels = folder / "corrections.tsv"
    found = scan.scan(
        root, IdentityCache(folder / "identities.npz"), 0.1, 0.1,
        corrections_path=labels if labels.exists() else None, unlabelled=[heap],
    )  # fmt: skip
    outputs = index.Outputs(
        results / "manifest.tsv", results / "unlabelled.tsv", results / "not_photos.tsv",
        results / "applied.tsv", results / "shards",
    )  # fmt: skip
    index.write(found, outputs, 1, 0.1)
    shard = manifest.read_shard(results / "shards" / "0000-of-0001.tsv")
    made = embed(shard, extractor, "cpu", num_threads=2) if extractor else embed_colours(shard)
    made.save(results / "embeddings.npz")
    sources = Sources(
        "heap", str(outputs.manifest), str(outputs.unlabelled), str(outputs.corrections),
        [str(results / "embeddings.npz")], str(results / "groups.tsv"), str(labels),
        str(results / "labelling"), True,
    )  # fmt: skip
    sources.prepare(results / "labelling.json", 1)
    return sources


@contextlib.contextmanager
def served(folder: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serves the page of a prepared folder; yields its address and the program."""
    command = [sys.executable, ROOT / "scripts/label.py", "--no-run", "--no-browser"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as program:  # fmt: skip
        try:
            assert program.stdout is not None
            printed = ""
            for line in program.stdout:
                printed += line
                if address := re.search(r"http://127\.0\.0\.1:\d+/\S+/", line):
                    yield address[0], program
                    break
            else:
                raise AssertionError(printed)
        finally:
            program.kill()


def labels_in(folder: Path) -> dict[str, str]:
    """Returns the label of every photo in the labels' file, by the photo's name."""
    path = folder / "corrections.tsv"
    lines = corrections.read(path).values() if path.exists() else []
    return {Path(one.path).name: one.label for one in lines}


def take_picture(photos: Path, extractor: Path, picture: Path) -> None:
    """Takes a picture of the page with some of the photos labelled."""
    from tests.browser import open_browser, save_picture, set_window

    with tempfile.TemporaryDirectory() as scratch, open_browser() as browser:
        folder = Path(scratch)
        (folder / "heap").mkdir()
        truth = {}
        for path in sorted(photos.glob("*/*.jpg")):
            shutil.copy(path, folder / "heap")
            truth[path.name] = path.parent.name
        prepare(folder, folder / "heap", extractor=extractor)
        with served(folder) as (address, _):
            set_window(browser, 1280)
            browser.get(address)
            script = (
                "const done = arguments[2]; fetch('label', {method: 'POST', headers: "
                "{'Content-Type': 'application/json'}, body: JSON.stringify({photos: arguments[0], "
                "class: arguments[1], each: false})}).then(r => r.json()).then(done)"
            )
            listed = "fetch('photos').then(r => r.json()).then(arguments[0])"
            names = browser.execute_async_script(listed)["photos"]
            for start in range(0, 150, 30):
                for label in sorted(set(truth.values())):
                    some = [s for s, name in names[start : start + 30] if truth[name] == label]
                    browser.execute_async_script(script, some, label)
                time.sleep(1)
            browser.get(address)
            time.sleep(4)
            save_picture(browser, picture)


if __name__ == "__main__":
    take_picture(*map(Path, sys.argv[1:]))
