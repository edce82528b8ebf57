"""Fine-tuning: TensorFlow computes what the interpreter does, and only weights change."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.embeddings.embed import embed as embed_photos
from edgetpu_retrain.embeddings.labelled_embeddings import LabelledEmbeddings
from edgetpu_retrain.embeddings.shards import Embeddings
from edgetpu_retrain.fine_tuning import fit, views
from edgetpu_retrain.fine_tuning.fine_tune import fine_tune
from edgetpu_retrain.index.manifest import Photo
from edgetpu_retrain.io import files
from edgetpu_retrain.runtime.interpreter import Interpreter
from edgetpu_retrain.tflite.layers import last_layers, read_weights, write_weights
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate
from edgetpu_retrain.training import recipes
from tests.shards import save_shards

# Each with a number of layers. That of MobileNet v2 begins inside of a residual block, so that one
# more layer is needed in front; the last one is quantized per channel.
NETWORKS = [
    ("mobilenet_v1_1.0_224_quant_embedding_extractor.tflite", 5),
    ("mobilenet_v2_1.0_224_quant.tflite", 6),
    ("tf2_mobilenet_v2_1.0_224_ptq.tflite", 6),
]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network[0])
def network(request: pytest.FixtureRequest, models: Path) -> tuple[Model, int]:
    name, count = request.param
    model = Model.load(models / name)
    return (model if "extractor" in name else truncate(model)), count


@pytest.fixture(scope="module")
def flowers(photos: Path) -> list[tuple[str, str]]:
    paths = [path for folder in sorted(photos.iterdir()) for path in sorted(folder.iterdir())[:3]]
    return [(str(path), files.sha256(path)) for path in paths]


@pytest.fixture(scope="module")
def small(sample_photos: Path, made: Path, tmp_path_factory) -> LabelledEmbeddings:
    """The sample's photos of three classes, 25 of each, as its network embeds them."""
    listed = [
        Photo(str(path), label, "train", files.sha256(path))
        for label in ("daisy", "rose", "tulip")
        for path in sorted((sample_photos / label).iterdir())[:25]
    ]
    shard = dict(sorted((photo.sha256, photo.path) for photo in listed))
    embeddings = embed_photos(shard, made / "extractor.tflite", "cpu")
    return LabelledEmbeddings.load(
        save_shards(tmp_path_factory.mktemp("shards"), embeddings), listed
    )


def embed(model: Model, flowers: list[tuple[str, str]], folder: Path) -> np.ndarray:
    """Real embeddings of the photos as they are, by the interpreter."""
    model.save(folder / "embed.tflite")
    interpreter = Interpreter(folder / "embed.tflite", "cpu")
    size, quantization = interpreter.input_size, interpreter.quantization
    assert quantization is not None
    return np.stack(
        [
            quantization.dequantize(
                interpreter.run(views.view(Image.open(path).convert("RGB"), sha256, 0, size))
            )
            for path, sha256 in flowers
        ]
    )


def test_the_layers_compute_what_the_interpreter_does(network, flowers, tmp_path):
    from edgetpu_retrain.fine_tuning.network import Network

    model, count = network
    last = last_layers(model, count)
    assert len(last.trained) == count
    activations = views.compute(model, last.boundary, flowers, tmp_path / "views")
    expected = embed(model, flowers, tmp_path)
    width = expected.shape[1]
    # With such a head, the logits are the embedding.
    rebuilt = Network(model, last, np.eye(width, dtype="f"), np.zeros(width, "f"), step=0.1)
    every = np.arange(len(flowers))
    actual = rebuilt.logits(activations[every, np.zeros_like(every)])
    steps = np.abs(actual - expected) / model.outputs[0].scale
    # Of the rounding in between, some is done the other way.
    assert np.mean(steps > 0.5) < 0.02
    assert steps.max() < 3.5


def test_weights_are_read_and_written(network):
    model, count = network
    changed = model.copy()
    last = last_layers(model, count)
    for number in last.trained:
        layer = last.layers[number]
        weights, biases, _ = read_weights(model, layer)
        write_weights(changed, layer, weights, biases)
    for layer in last.layers:
        for index in filter(None, (layer.weights, layer.biases)):
            before = model.constant(index).view(model.tensor(index).dtype)
            after = changed.constant(index).view(model.tensor(index).dtype)
            # The lowest integer is not used.
            assert np.all((before == after) | (before == np.iinfo(before.dtype).min))


@pytest.mark.parametrize("recipe", ["optimum", "coral", "imprinting"])
def test_photos_that_the_network_saw_do_not_count(recipe: str, tmp_path: Path):
    """Their embeddings tell the class, as fine-tuning makes them; those of the others do not."""
    random = np.random.default_rng(0)
    count, classes = 300, 3
    labels = np.arange(count) % classes
    vectors = random.integers(0, 50, (count, 8), np.uint8)
    vectors[:150, :3] += 150 * np.eye(3, dtype=np.uint8)[labels[:150]]
    hashes = random.integers(0, 256, (count, 32), np.uint8)
    # One of the others is a near-copy of one that was seen.
    vectors[150], hashes[150] = vectors[0], hashes[0]
    identities = [f"{i:064x}" for i in range(count)]
    shard = Embeddings(
        vectors, 0.02, 3, np.array(identities, "S64"), hashes, "e" * 64, "bilinear 1",
        np.array([], "S64"), np.array([], np.str_),
    )  # fmt: skip
    listed = [Photo(f"{i}.jpg", "abc"[labels[i]], "train", identities[i]) for i in range(count)]
    labelled = LabelledEmbeddings.load(save_shards(tmp_path, shard), listed)
    result = recipes.train(labelled, recipe, 0, seen=identities[:150])
    out_of_fold = result.out_of_fold()
    assert sorted(out_of_fold.seen) == identities[:151]
    assert sorted(out_of_fold.identities) == identities[151:]
    # At chance, where half of all photos would be correct with the others.
    correct = np.mean(result.predictions.predicted == result.predictions.labels)
    assert correct < 0.45
    likelihood = result.predictions.scores[np.arange(149), result.predictions.labels]
    # The scores say so too, but for the recipe that is not calibrated.
    assert recipe == "coral" or -np.mean(np.log(likelihood)) < 1.3
    if recipe == "optimum":
        training = result.head.training
        assert training["learning_curve"][-1]["accuracy"] == correct
        assert all(tried["accuracy"] < 0.45 for tried in training["strengths"])


def test_photos_of_a_class_are_not_taken_for_near_copies(tmp_path: Path):
    """After fine-tuning, the embeddings of a class hardly differ."""
    random = np.random.default_rng(0)
    count, classes = 300, 10
    labels = np.arange(count) % classes
    centres = random.integers(0, 250, (classes, 64), np.uint8)
    vectors = centres[labels] + random.integers(0, 5, (count, 64), np.uint8)
    hashes = random.integers(0, 256, (count, 32), np.uint8)
    identities = [f"{i:064x}" for i in range(count)]
    shard = Embeddings(
        vectors, 0.02, 3, np.array(identities, "S64"), hashes, "e" * 64, "bilinear 1",
        np.array([], "S64"), np.array([], np.str_),
    )  # fmt: skip
    listed = [
        Photo(f"{i}.jpg", "abcdefghij"[labels[i]], "train", identities[i]) for i in range(300)
    ]
    labelled = LabelledEmbeddings.load(save_shards(tmp_path, shard), listed)
    result = recipes.train(labelled, recipes.DEFAULT, 0, seen=identities[:150])
    assert sorted(result.out_of_fold().identities) == identities[150:]


def test_an_interrupted_run_ends_as_if_it_had_not_been(
    small: LabelledEmbeddings, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(folder: Path) -> tuple[bytes, bytes, bytes]:
        folder.mkdir(exist_ok=True)
        paths = [folder / name for name in ("tuned.tflite", "report.json", "tuned_on.tsv")]
        fine_tune(made / "extractor.tflite", small, *paths, layers="auto", num_threads=2)
        assert list(folder.iterdir()) and not (folder / ".fine_tuning").exists()
        return tuple(path.read_bytes() for path in paths)

    monkeypatch.setattr(fit, "_MAX_EPOCHS", 4)
    expected = run(tmp_path / "whole")
    keep, epochs = fit._keep, []

    def interrupt(*arguments):
        keep(*arguments)
        epochs.append(arguments)
        if len(epochs) in (2, 5):
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "_keep", interrupt)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "interrupted")
    assert run(tmp_path / "interrupted") == expected
    # No epoch was trained twice.
    trials = json.loads(expected[1])["trials"]
    assert len(epochs) == sum(len(trial["epochs"]) for trial in trials)
    # What training foresaw is what the file does.
    assert all(trial["agreement"] > 0.9 for trial in trials)


def test_all_layers_learn(
    small: LabelledEmbeddings, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fit, "_MAX_EPOCHS", 4)
    paths = [tmp_path / name for name in ("tuned.tflite", "report.json", "tuned_on.tsv")]
    fine_tune(made / "extractor.tflite", small, *paths, layers="all", num_threads=2)
    before, after = Model.load(made / "extractor.tflite"), Model.load(paths[0])
    # MobileNet v1 has one convolution, and 13 times a depthwise and a pointwise one.
    weights = [
        operator.inputs[1] for operator in before.operators if operator.name.endswith("CONV_2D")
    ]
    assert len(weights) == json.loads(paths[1].read_bytes())["layers"] == 27
    assert all(np.any(before.constant(index) != after.constant(index)) for index in weights)


def test_views_are_mirrored_only_if_wanted(photos: Path):
    path = next(photos.glob("*/*.jpg"))
    photo, sha256 = Image.open(path).convert("RGB"), files.sha256(path)
    for number in range(views.VIEWS):
        one, other = (
            views.view(photo, sha256, number, (224, 224), mirror) for mirror in (True, False)
        )
        assert np.array_equal(one[:, ::-1] if number % 2 else one, other)
        assert not np.array_equal(one, other) or number % 2 == 0
