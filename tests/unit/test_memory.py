"""What the stages after embedding hold in memory, on some photos and on three times as many."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.index import manifest
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.tflite.model import Model

# A block of photos is full with the first number.
SOME, MANY = 3_000, 9_000
# What a photo may take at most, in embeddings of 256 bytes. The search for near-copies takes six.
BOUNDS = {"train": 10, "serialize": 0.1, "evaluate": 4, "report": 4}
PROJECT = Path(__file__).parents[2]


def lay_results(folder: Path, photos: int, width: int) -> None:
    """Writes what a run has after embedding: three classes, and a copy of one photo in fifty."""
    random = np.random.default_rng(0)
    names = manifest.shard_names(photos // 500)
    shards: dict[str, list[tuple[str, int]]] = {name: [] for name in names}
    listed = []
    for i in range(photos):
        sha256 = hashlib.sha256(b"%d" % i).hexdigest()
        shards[names[manifest.shard_of(sha256, len(names))]].append((sha256, i))
        split = "test" if sha256 < "1" else "train"
        listed.append(Photo(f"photos/{'abc'[i % 3]}/{i:06}.jpg", "abc"[i % 3], split, sha256))
    manifest.write(sorted(listed), folder / "manifest.tsv")
    manifest.write_skipped([], folder / "skipped.tsv")
    (folder / "unlabelled.tsv").write_text("path\tclass\tsplit\tsha256\n")
    (folder / "corrections.tsv").write_text("sha256\tpath\tfolder\tclass\toutcome\tnote\n")
    numbers = np.arange(photos)
    vectors = random.integers(0, 120, (3, width))[numbers % 3]
    vectors = (vectors + random.integers(0, 130, (photos, width))).astype(np.uint8)
    hashes = random.integers(0, 256, (photos, 32), np.uint8)
    copied = numbers[::50]
    vectors[copied], hashes[copied] = vectors[copied + 3], hashes[copied + 3]
    for name, members in shards.items():
        members.sort()
        rows = [i for _, i in members]
        Embeddings(
            vectors[rows], 0.1, 0, np.array([sha256 for sha256, _ in members], "S64"),
            hashes[rows], "e" * 64, "bilinear 2", np.array([], "S64"), np.array([], np.str_),
        ).save(folder / f"embeddings/{name}.npz")  # fmt: skip


def run_stages(folder: Path, photos: int, width: int, extractor: Path) -> dict[str, int]:
    """Runs them on so many photos; returns how many bytes each held at most."""
    lay_results(folder, photos, width)
    model = folder / "retrained_model.tflite"
    there = {
        "embeddings": sorted(map(str, (folder / "embeddings").glob("*.npz"))),
        "tuned_on": [],
        "nested": [],
        **{
            name: f"{folder}/{name}.tsv"
            for name in ("manifest", "unlabelled", "skipped", "corrections")
        },
    }
    made = {
        "head": f"{folder}/head.npz",
        "label_map": f"{folder}/label_map.txt",
        "out_of_fold": f"{folder}/out_of_fold.npz",
        "groups": f"{folder}/groups.tsv",
        "predictions": f"{folder}/predictions.tsv",
        "evaluation": f"{folder}/evaluation.json",
        "page": f"{folder}/report.html",
        "model": str(model),
    }
    params = {
        "max_skipped": 0.1, "training": {"recipe": "optimum"}, "seed": 0, "none": False,
        "test_dataset": None, "strangers": None,
        "device": "cpu", "resize": "bilinear", "dataset": "a", "backbone": "b", "settings": {},
        "commands": {}, "edgetpu_model": "", "label_lists": {},
    }  # fmt: skip
    given = {
        "input": there | made | {"extractor": str(extractor), "models": [str(model)]},
        "output": made,
        "params": params,
    }
    peaks = {}
    for name in BOUNDS:
        done = subprocess.run(
            [sys.executable, "-m", "tests.stage", f"scripts/{name}.py", json.dumps(given)],
            cwd=PROJECT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        peaks[name] = int(done.stdout)
    return peaks


def test_a_photo_takes_a_few_times_the_bytes_of_its_embedding(made: Path, tmp_path: Path):
    extractor = made / "extractor.tflite"
    width = Model.load(extractor).outputs[0].shape[-1]
    some, many = (
        run_stages(tmp_path / str(photos), photos, width, extractor) for photos in (SOME, MANY)
    )
    taken = {name: (many[name] - some[name]) / (MANY - SOME) / width for name in BOUNDS}
    assert all(taken[name] < bound for name, bound in BOUNDS.items()), taken
