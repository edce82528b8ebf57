"""The parts that benchmark.py measures, each in a process of its own.

    python benchmarks/parts.py PART PHOTOS EXTRACTOR CORES

prints one line of JSON: how many photos, and the seconds that they took, by the clock and of CPU
time. `guide` needs only numpy, Pillow and a TFLite runtime, so that it runs with tflite-runtime
too.
"""

import hashlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

# Paths by identity, which the index has found before.
Photos = Mapping[str, str]
# What one Edge TPU takes for MobileNet v1 (published by Coral); it is waited for, not computed.
DEVICE_SECONDS = 0.0024


def runtime(extractor: Path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    interpreter = Interpreter(model_path=str(extractor), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def network(extractor: Path) -> Callable[[np.ndarray], np.ndarray]:
    interpreter = runtime(extractor)
    image = interpreter.get_input_details()[0]["index"]
    output = interpreter.get_output_details()[0]["index"]

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(image, pixels[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(output).ravel()

    return run


def side(extractor: Path) -> int:
    return int(runtime(extractor).get_input_details()[0]["shape"][1])


def guide(photos: Photos, extractor: Path, cores: int) -> None:
    """The loop of Coral's example: one photo after the other, resized by nearest neighbour."""
    run, size = network(extractor), side(extractor)
    for path in photos.values():
        with Image.open(path) as photo:
            run(np.asarray(photo.resize((size, size), Image.Resampling.NEAREST)))


def network_alone(photos: Photos, extractor: Path, cores: int) -> None:
    """The network on all cores, one copy per core, with the pixels at hand."""
    size = side(extractor)
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)

    def some(count: int) -> None:
        run = network(extractor)
        for _ in range(count):
            run(pixels)

    shares = [len(range(i, len(photos), cores)) for i in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(some, shares))


def decode(path: str, size: int) -> np.ndarray:
    """The fastest decode for a resize that averages: at the smallest scale that covers it."""
    with Image.open(path) as photo:
        photo.draft("RGB", (size, size))
        return np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR))


def decode_alone(photos: Photos, extractor: Path, cores: int) -> None:
    """Reading, decoding and resizing on all cores, without a network."""
    size = side(extractor)
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(decode, photos.values(), itertools.repeat(size)))


def embed(photos: Photos, extractor: Path, cores: int) -> None:
    """This project's embedding of one shard."""
    from edgetpu_retrain.embeddings.embed import embed

    embed(photos, extractor, "cpu", num_threads=cores)


def device_alone(photos: Photos, extractor: Path, cores: int) -> None:
    """The simulated device without anything else; waiting takes a little longer than it should."""
    for _ in photos:
        time.sleep(DEVICE_SECONDS)


def embed_on_simulated_device(photos: Photos, extractor: Path, cores: int) -> None:
    """The same with a device in place of the network: it is waited for, by one at a time."""
    from edgetpu_retrain.embeddings import embed as stage
    from edgetpu_retrain.runtime import interpreter

    class Device(interpreter.Interpreter):
        def __init__(self, model, device):
            super().__init__(model, "cpu")
            self.on_edge_tpu = True

        def run(self, pixels):
            time.sleep(DEVICE_SECONDS)
            return np.zeros(self.output_size, self.output_dtype)

    stage.Interpreter = Device
    embed(photos, extractor, cores)


PARTS = {
    part.__name__: part
    for part in (
        guide,
        network_alone,
        decode_alone,
        embed,
        device_alone,
        embed_on_simulated_device,
    )
}


def main() -> None:
    part, folder, extractor, cores = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    paths = sorted(Path(folder).glob("*/*.jpg"))
    photos = {hashlib.sha256(path.read_bytes()).hexdigest(): str(path) for path in paths}
    photos = dict(sorted(photos.items()))
    begin, cpu = time.perf_counter(), time.process_time()
    PARTS[part](photos, Path(extractor), int(cores))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    print(json.dumps({"photos": len(photos), "seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    main()
