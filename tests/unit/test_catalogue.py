"""What the catalogue of backbones says of accuracy and time, and how it is shown."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import yaml

from tests.conftest import ROOT
from tests.unit import test_truncate

BACKBONES = yaml.safe_load((ROOT / "workflow/backbones.yaml").read_text())


def test_the_table_has_published_accuracy_and_time():
    command = [sys.executable, ROOT / "scripts/show_backbones.py"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {line.split()[0]: line for line in shown.splitlines() if line}
    assert re.search(r" 77\.0 % +5\.0 ms ", rows["efficientnet_edgetpu_s"])
    assert re.search(r" 80\.7 % +84\.7 ms ", rows["inception_v4_299_quant"])
    assert re.search(r" \? +\? ", rows["inception_v2_224_quant"])
    assert "not measured here" in shown


def test_times_are_those_of_the_facts(shared: Path):
    facts = (shared / "reference/coral.md").read_text()
    (published,) = re.findall(r"^Published times on the device: .*$", facts, re.MULTILINE)
    for family, names in (
        ("MobileNet v1 / v2", ("mobilenet_v1_1.0_224", "mobilenet_v2_1.0_224_quant")),
        ("EfficientNet-EdgeTPU S / M / L", [f"efficientnet_edgetpu_{size}" for size in "sml"]),
        (
            "Inception v1 / v3 / v4",
            ("inception_v1_224_quant", "inception_v3_quant", "inception_v4_299_quant"),
        ),
    ):
        times = " / ".join(str(BACKBONES[name]["edgetpu_ms"]) for name in names)
        assert f"{family} {times} ms" in published
        if family.startswith("MobileNet"):
            continue
        accuracies = " / ".join(str(BACKBONES[name]["imagenet_top1"]) for name in names)
        assert accuracies in published


def test_the_smallest_network_is_the_published_file(models: Path):
    name = "mobilenet_v1_0.25_128_quant"
    digest = hashlib.sha256((models / f"{name}.tflite").read_bytes()).hexdigest()
    entry = BACKBONES[name]
    assert entry["tflite"]["sha256"] == digest
    embedding = entry["tensor"], entry["width"], entry["input_size"]
    # What test_truncate finds in that file.
    assert (name, *embedding) in test_truncate.PUBLISHED


def test_the_network_of_birds_is_the_published_file(models: Path):
    name = "mobilenet_v2_1.0_224_inat_bird_quant"
    content = (models / f"{name}.tflite").read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    assert BACKBONES[name]["tflite"]["git_blob"] == blob
    labels = (models / "inat_bird_labels.txt").read_text().splitlines()
    assert f"{len(labels)} classes" in BACKBONES[name]["description"]
