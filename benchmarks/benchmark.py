"""How fast this project is, in one run, as ratios: over the guide's loop, and of what is possible.

    python benchmarks/benchmark.py --photos flower_photos --extractor extractor.tflite

The photos are brought to 320 x 240 and to 4000 x 3000 pixels. The bound is what cannot be done
without: on a CPU the network alone plus the fastest correct decode alone, on all cores; with a
device the larger of the two. Every ratio is of measurements that took turns. Ratios of CPU time
hold on a machine that does other things as well; the device is simulated.
"""

import argparse
import functools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "benchmarks/parts.py"
OLD_RUNTIME = ROOT / ".venv-tflite-runtime/bin/python"
SIZES = {"320 x 240": (320, 240), "12 megapixels": (4000, 3000)}
ADDED = 0.01
# Every process writes its peak of memory when it ends.
PEAKS = """
import atexit, os, sys
def note():
    peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0]
    with open(os.environ["PEAKS"], "a") as file:
        file.write(f"{peak} {' '.join(sys.argv)}\\n")
atexit.register(note)
"""

Measured = dict[str, float]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="a folder per class; by default the sample's")
    parser.add_argument("--extractor", type=Path, help="for the CPU; by default the sample's")
    parser.add_argument("--count", type=int, default=2000, help="small photos, at most")
    parser.add_argument("--large", type=int, default=100, help="of 12 megapixels, at most")
    parser.add_argument("--rounds", type=int, default=2, help="how often all take turns")
    parser.add_argument("--quick", action="store_true", help="the embedding of small photos only")
    parser.add_argument("--compare", type=Path, help="print the ratios of this file beside")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results")
    return parser.parse_args()


def lay_photos(source: Path, folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """Writes at most `count` photos in this size; where there are too few, mirrored ones too."""
    labels = [path for path in sorted(source.iterdir()) if path.is_dir()]
    written = []
    for label in labels:
        (folder / label.name).mkdir(parents=True)
        paths = sorted(label.glob("*.jpg"))
        for i, path in enumerate((paths * 2)[: count // len(labels)]):
            try:
                with Image.open(path) as photo:
                    resized = photo.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            except OSError:
                continue
            if i >= len(paths):
                resized = ImageOps.mirror(resized).rotate(3)
            written.append(folder / label.name / f"{i}.jpg")
            resized.save(written[-1], quality=90)
    return written


def part(name: str, folder: Path, extractor: Path, cores: int, python: str = "") -> Measured:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [python or sys.executable, PARTS, name, folder, extractor, str(cores)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def workflow(folder: Path, photos: Path, extractor: Path, cores: int) -> Measured:
    """Runs the workflow as far as the delivered model, in a folder of its own."""
    (folder / "sitecustomize.py").write_text(PEAKS)
    shutil.copy(ROOT / "config.yaml", folder)
    environment = os.environ | {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PEAKS": str(folder / "peaks.txt"),
    }
    entry = f"{{name: benchmark, extractor: {extractor}}}"
    before, begin = os.times(), time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"),
            *("--configfile", ROOT / "config.yaml", "--directory", folder, "--cores", str(cores)),
            *("--workflow-profile", ROOT / "profiles/default", "--config"),
            *(f"dataset={photos}", f"backbone={entry}", "device=cpu"),
            *("--", "retrained_model.tflite"),
        ],
        check=True,
        capture_output=True,
        env=environment,
        cwd=folder,
    )
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {"seconds": time.perf_counter() - begin, "cpu": cpu}


def peaks(folder: Path) -> dict[str, int]:
    """The peak of memory of each stage in MB, by script."""
    found: dict[str, int] = {}
    for line in (folder / "peaks.txt").read_text().splitlines():
        peak, _, command = line.partition(" ")
        program = Path(command.split(" ")[0]).name
        stage = program.split(".")[-2] if program.startswith("tmp") else "snakemake"
        found[stage] = max(found.get(stage, 0), int(peak) // 1024)
    return found


def whole_runs(folder: Path, photos: Path, extractor: Path, cores: int) -> dict[str, Any]:
    """A cold run, one with nothing to do, and one with a hundredth more photos."""
    paths = sorted(photos.glob("*/*.jpg"))
    later = paths[:: round(1 / ADDED)]
    aside = folder / "aside"
    aside.mkdir(parents=True)
    for i, path in enumerate(later):
        path.rename(aside / f"{i}.jpg")
    run = folder / "run"
    run.mkdir()
    found: dict[str, Any] = {"cold": workflow(run, photos, extractor, cores)}
    found["nothing to do"] = workflow(run, photos, extractor, cores)
    for i, path in enumerate(later):
        (aside / f"{i}.jpg").rename(path)
    found["1 % more photos"] = workflow(run, photos, extractor, cores)
    found["photos"], found["added"] = len(paths) - len(later), len(later)
    found["peak memory in MB"] = peaks(run)
    return found


def take_turns(rounds: int, measurements: dict[str, Callable[[], Measured]]) -> dict[str, Measured]:
    """Returns the fastest of each, of rounds in which every one had its turn."""
    best: dict[str, Measured] = {}
    for _ in range(rounds):
        for name, measure in measurements.items():
            now = measure()
            then = best.get(name, now)
            best[name] = {key: min(value, then[key]) for key, value in now.items()}
    return best


def ratios(found: dict[str, Measured], what: str) -> dict[str, float]:
    bound = found["network_alone"][what] + found["decode_alone"][what]
    result = {"embedding over the bound": bound / found["embed"][what]}
    for name, measured in found.items():
        if name.startswith("guide"):
            result[f"embedding over {name}"] = measured[what] / found["embed"][what]
    return result


def machine() -> dict[str, Any]:
    cpu = platform.processor()
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":")[1].strip() for line in file if "model name" in line), cpu)
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load before": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    source, extractor = arguments.photos, arguments.extractor
    if source is None:
        with zipfile.ZipFile(ROOT / "sample/photos.zip") as archive:
            archive.extractall(folder / "photos")
        source = next(path.parent.parent for path in (folder / "photos").rglob("*.jpg"))
    if extractor is None:
        extractor = make_sample_extractor(folder)
    extractor = extractor.resolve()
    report: dict[str, Any] = {"machine": machine(), "sizes": {}}
    cores = report["machine"]["cores"]
    for title, size in SIZES.items():
        if arguments.quick and title != "320 x 240":
            continue
        photos = folder / title.replace(" ", "_")
        count = arguments.count if size[0] < 1000 else arguments.large
        paths = lay_photos(source, photos, size, count)
        one = functools.partial(part, folder=photos, extractor=extractor)
        turns = {
            name: functools.partial(one, name, cores=cores)
            for name in ("network_alone", "decode_alone", "embed")
        }
        turns["guide on ai-edge-litert"] = functools.partial(one, "guide", cores=1)
        if OLD_RUNTIME.exists() and not arguments.quick:
            turns["guide on tflite-runtime"] = functools.partial(
                one, "guide", cores=1, python=str(OLD_RUNTIME)
            )
        found = take_turns(arguments.rounds, turns)
        size_report = report["sizes"][title] = {
            "photos": found["embed"]["photos"],
            "measured": found,
            "ratios by the clock": ratios(found, "seconds"),
            "ratios of CPU time": ratios(found, "cpu"),
        }
        if arguments.quick:
            continue
        names = ("device_alone", "embed_on_simulated_device")
        device = take_turns(
            arguments.rounds, {name: functools.partial(one, name, cores=cores) for name in names}
        )
        bound = max(device["device_alone"]["seconds"], found["decode_alone"]["seconds"])
        found |= device
        size_report["embedding by cores, photos per second"] = {
            str(n): len(paths) / one("embed", cores=n)["seconds"]
            for n in (1, 2, 4, 8)
            if n <= cores
        }
        size_report["ratios by the clock"]["simulated device of 2.4 ms over the bound"] = (
            bound / device["embed_on_simulated_device"]["seconds"]
        )
        whole = whole_runs(folder / f"whole_{size[0]}", photos, extractor, cores)
        # A hundredth of the photos came later.
        part_of_all = whole["photos"] / len(paths)
        bound = found["network_alone"]["seconds"] + found["decode_alone"]["seconds"]
        loop = found["guide on ai-edge-litert"]["seconds"]
        size_report["whole run"] = whole
        size_report["ratios by the clock"] |= {
            "whole run over the bound": bound * part_of_all / whole["cold"]["seconds"],
            "whole run over the guide's loop": loop * part_of_all / whole["cold"]["seconds"],
        }
    return report


def make_sample_extractor(folder: Path) -> Path:
    target = "results/backbones/sample/extractor.tflite"
    shutil.copytree(ROOT / "sample", folder / "sample")
    shutil.copy(ROOT / "config.yaml", folder)
    subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"),
            *("--directory", folder, "--cores", "1", "--configfile", ROOT / "config.yaml"),
            *("--config", "dataset=sample", "backbone=sample", "device=cpu", "--", target),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    return folder / target


def table(report: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Returns the figures as tables in Markdown, the ratios beside those of another report."""
    lines = ["| photos | what | ratio |" + (" last release |" if before else "")]
    lines.append("|---|---|---|" + ("---|" if before else ""))
    for size, found in report["sizes"].items():
        for kind in ("ratios by the clock", "ratios of CPU time"):
            for what, value in found[kind].items():
                line = f"| {found['photos']} of {size} | {what}, {kind[7:]} | {value:.2f} |"
                if before:
                    old = before["sizes"].get(size, {}).get(kind, {}).get(what)
                    line += f" {old:.2f} |" if old else " |"
                lines.append(line)
    for size, found in report["sizes"].items():
        if "whole run" not in found:
            continue
        whole = found["whole run"]
        lines += [
            "",
            f"| whole run, {whole['photos']} of {size} | seconds | CPU seconds |",
            "|---|---|---|",
        ]
        lines += [
            f"| {name} | {whole[name]['seconds']:.1f} | {whole[name]['cpu']:.1f} |"
            for name in ("cold", "nothing to do", "1 % more photos")
        ]
        lines += ["", f"| peak of memory, {size} | MB |", "|---|---|"]
        lines += [f"| {stage} | {peak} |" for stage, peak in whole["peak memory in MB"].items()]
        by_cores = found["embedding by cores, photos per second"]
        lines += ["", f"| embedding, {size} | photos per second |", "|---|---|"]
        lines += [f"| {count} cores | {speed:.0f} |" for count, speed in by_cores.items()]
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    sizes = report["sizes"]
    figure = Figure(figsize=(6.5 * len(sizes), 4), layout="constrained")
    all_axes = figure.subplots(1, len(sizes), squeeze=False)[0]
    for axes, (size, found) in zip(all_axes, sizes.items(), strict=True):
        bars = {
            name.replace("_", " "): measured["seconds"] / measured["photos"] * 1000
            for name, measured in found["measured"].items()
        }
        if "whole run" in found:
            whole = found["whole run"]
            bars["whole run, cold"] = whole["cold"]["seconds"] / whole["photos"] * 1000
        drawn = axes.barh(list(bars), list(bars.values()))
        axes.bar_label(drawn, fmt="%.1f", padding=3)
        axes.margins(x=0.12)
        axes.invert_yaxis()
        axes.set_xlabel("ms per photo")
        axes.set_title(f"{found['photos']} photos of {size}, {report['machine']['cores']} cores")
    figure.savefig(path, dpi=100)


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        report = measure(arguments, Path(name))
    before = json.loads(arguments.compare.read_text()) if arguments.compare else None
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=2) + "\n"
    (arguments.output / "benchmark.json").write_text(text, encoding="utf-8")
    (arguments.output / "benchmark.md").write_text(table(report, before) + "\n", encoding="utf-8")
    plot(report, arguments.output / "benchmark.png")
    print(f"{report['machine']['cores']} cores, {report['machine']['cpu']}")
    print(table(report, before))


if __name__ == "__main__":
    main()
