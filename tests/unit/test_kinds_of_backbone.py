"""The kinds of backbone: their keys, and the extractors that are made of them."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from edgetpu_retrain.backbone import kinds
from edgetpu_retrain.backbone.compiled import take_compiled
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.truncate import truncate
from tests import models as look
from tests import stand_ins
from tests.make_models import FROZEN_GRAPH
from tests.pictures import resized

FILE = object()
POOL = "MobilenetV1/Logits/AvgPool_1a/AvgPool"


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "x.tflite").touch()
    return str(tmp_path / "x.tflite")


def test_a_wrong_backbone_is_explained():
    with pytest.raises(UserError, match=r"Did you mean mobilenet.*Available names: mobilenet, x"):
        kinds.resolve("mobilnet", {"mobilenet": {}, "x": {}})


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("my_model.tflite", {"name": "my_model", "tflite": "my_model.tflite"}),
        ("nets/Mine.TFLITE", {"name": "Mine", "tflite": "nets/Mine.TFLITE"}),
        ("nets/mine", {"name": "mine", "tflite": "nets/mine"}),
        ("my net, 2.pb", {"name": "my_net_2", "frozen_graph": "my net, 2.pb", "tensor": "..."}),
        ("~/x.keras", {"name": "x", "keras": "~/x.keras", "mean": "...", "std": "..."}),
        ("x.h5", {"name": "x", "keras": "x.h5", "mean": "...", "std": "..."}),
        (
            "https://a/b.tflite",
            {"name": "b", "tflite": {"url": "https://a/b.tflite", "sha256": "..."}},
        ),
    ],
)
def test_a_path_in_place_of_a_name_is_explained(path: str, entry: dict, tmp_path, monkeypatch):
    """Whether there is such a file or not."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            kinds.resolve(path, {"mobilenet": {}})
        assert "mobilenet" not in str(caught.value)
        [written] = re.findall(r"backbone: (\{.*\})\.", str(caught.value))
        assert yaml.safe_load(written) == entry
        assert kinds.resolve(entry, {"mobilenet": {}}) == entry
        if "://" not in path and "~" not in path:
            Path(path).parent.mkdir(exist_ok=True)
            Path(path).touch()


def test_a_folder_in_place_of_a_name_is_a_saved_model(tmp_path: Path):
    with pytest.raises(UserError, match=rf"saved_model: {tmp_path}, mean: \.\.\., std: "):
        kinds.resolve(str(tmp_path), {})


def test_a_compiled_file_is_added_to_a_backbone_of_the_catalogue():
    catalogue = {"v2": {"tflite": "v2.tflite", "width": 1280, "licence": "x", "parameters": 3.5}}
    added = kinds.resolve({"name": "v2", "compiled": "x.tflite"}, catalogue)
    assert added == {"name": "v2", "tflite": "v2.tflite", "width": 1280, "compiled": "x.tflite"}
    own = {"name": "v2", "tflite": "mine.tflite"}
    assert kinds.resolve(own, catalogue) == own
    assert kinds.resolve("v2", catalogue) == {"name": "v2", "tflite": "v2.tflite", "width": 1280}


def test_a_file_of_the_user_s_home(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.tflite").touch()
    found = kinds.parse({"name": "x", "tflite": "~/x.tflite"})
    assert found.source.path == f"{tmp_path}/x.tflite"
    with pytest.raises(UserError, match=r"no file https://a/b.*give {url: \.\.\., sha256"):
        kinds.parse({"name": "x", "tflite": "https://a/b"})


def test_each_kind_says_what_it_is_made_with(path: str):
    url = {"url": ["https://a/b", "https://c/d"], "sha256": "0" * 64, "member": "x.pb"}
    graph = kinds.parse({"name": "x", "frozen_graph": url, "tensor": "Pool"})
    assert isinstance(graph, kinds.FrozenGraph)
    assert graph.source.urls == ("https://a/b", "https://c/d")
    assert graph.ENVIRONMENT == "tensorflow"
    assert graph.settings() == {
        "width": None, "mean": 128, "std": 128, "tensor": "Pool", "input": "input",
    }  # fmt: skip
    # What was downloaded as an archive is verified there.
    assert graph.source.checksum() == {}
    classifier = kinds.parse({"name": "x", "tflite": path, "mean": "127", "std": 128})
    assert isinstance(classifier, kinds.Classifier)
    # Cutting a .tflite does not need TensorFlow's environment.
    assert classifier.ENVIRONMENT == "retrain"
    assert classifier.settings() == {"width": None, "mean": 127, "std": 128, "tensor": None}
    extractor = kinds.parse({"name": "x", "extractor": path, "compiled": path, "width": 1024})
    assert extractor.settings() == {"width": 1024, "mean": None, "std": None}
    assert extractor.compiled.path == path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, r".*give one of extractor, tflite, frozen_graph.*you gave none of them"),
        ({"tflite": FILE, "extractor": FILE}, ".*you gave extractor and tflite"),
        ({"extractor": FILE, "tensor": "x"}, r".*of kind extractor\): there is no key 'tensor'"),
        ({"extractor": FILE, "input": "x"}, ".*there is no key 'input'"),
        ({"tflite": FILE, "input": "x"}, r".*of kind tflite\): there is no key 'input'"),
        ({"tflite": FILE, "mean": 127}, ".*mean and std must be given together"),
        ({"extractor": FILE, "std": 127}, ".*mean and std must be given together"),
        ({"tflite": FILE, "mean": 127, "std": 0}, ".*std is 0; expected a number greater than 0"),
        ({"tflite": FILE, "tensr": "x"}, ".*no key 'tensr'. Did you mean tensor"),
        ({"tflite": FILE, "width": 0}, ".*width is 0; expected a whole number, 1 or greater"),
        ({"frozen_graph": FILE, "tensor": "x", "mean": 127.5}, ".*mean is 127.5; expected a whole"),
        ({"frozen_graph": FILE}, ".*tensor is missing"),
        (
            {"tflite": {"sha256": "0" * 64}},
            ".*tflite is .*; expected a path, or a mapping with url",
        ),
        ({"tflite": {"url": "ftp://a"}}, r".*tflite.url is 'ftp://a'; expected an http"),
        ({"tflite": "none"}, r"\.tflite: there is no file none"),
        ({"tflite": FILE, "compiled": "none"}, r"\.compiled: there is no file none"),
        ({"tflite": FILE, "name": "a b"}, ".*name is 'a b'; expected at most 100 letters"),
        ({"tflite": FILE, "name": "a\n"}, r".*name is 'a\\n'; expected at most 100 letters"),
        ({"tflite": FILE, "name": "a" * 300}, ".*; expected at most 100 letters"),
        # What else is in the folder that its folder is in.
        ({"tflite": FILE, "name": "manifest.tsv"}, ".*name is 'manifest.tsv'; expected at most"),
        ({"tflite": FILE, "name": "Shards"}, ".*name is 'Shards'; expected at most 100"),
        ({"keras": FILE}, ": a float network does not record how.*Give mean and std"),
        ({"keras": FILE, "mean": -1, "std": 1}, ".*mean is -1; expected a number from 0 to 255"),
        ({"saved_model": FILE, "mean": 0, "std": 1}, ".saved_model: there is no folder"),
        (
            {"saved_model": {"url": "http://x"}, "mean": 0, "std": 1},
            ".*expected the path of a",
        ),
    ],
)
def test_a_wrong_entry_is_explained(path: str, entry, message):
    given = {key: path if value is FILE else value for key, value in entry.items()}
    with pytest.raises(UserError, match=rf"^config: backbone{message}"):
        kinds.parse({"name": "x"} | given)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"frozen_graph": FILE, "tensor": "x"}, (r"TensorFlow\.", "tensorflow")),
        (
            {"keras": FILE, "mean": 0, "std": 1},
            ("TensorFlow, ai-edge-quantizer, scikit-learn", "tensorflow,quantize"),
        ),
        (
            {"float_tflite": FILE, "mean": 0, "std": 1},
            ("ai-edge-quantizer, scikit-learn", "quantize"),
        ),
        ({"tflite": FILE}, None),
        ({"extractor": FILE}, None),
    ],
)
def test_what_a_light_installation_lacks_is_named_with_its_extra(
    path: str, monkeypatch: pytest.MonkeyPatch, entry, named
):
    given = {key: path if value is FILE else value for key, value in entry.items()}
    backbone = kinds.parse({"name": "mine"} | given)
    kinds.check_installed(backbone)
    left_out = {"tensorflow", "ai_edge_quantizer", "sklearn"}
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in left_out else find_spec(name)
    )
    if named is None:
        kinds.check_installed(backbone)
    else:
        with pytest.raises(UserError, match=rf"mine .*: {named[0]}.* '\.\[{named[1]}\]'"):
            kinds.check_installed(backbone)


def test_a_float_tflite_is_taken_for_what_it_is(made: Path, tmp_path: Path):
    entry = {"name": "x", "tflite": str(made / "float.tflite"), "mean": "128", "std": 128}
    found = kinds.parse(entry)
    assert isinstance(found, kinds.FloatClassifier)
    assert (found.CALIBRATED, found.ENVIRONMENT) == (True, "retrain")
    assert (found.mean, found.settings()) == (128, {"width": None, "tensor": None})
    found = kinds.parse({"name": "x", "tflite": str(made / "int8.tflite")})
    assert isinstance(found, kinds.Classifier)
    assert not found.CALIBRATED
    # Where it is downloaded, that is known when it is cut.
    with pytest.raises(UserError, match=r"is a float network\. Give it as float_tflite"):
        kinds.Classifier.make_extractor(
            made / "float.tflite", tmp_path / "x", width=None, mean=0, std=1, tensor=None
        )


def test_a_keras_model_is_converted_and_cut(float_networks: Path, tmp_path: Path):
    kinds.KerasModel.make_extractor(
        float_networks / "good.h5", tmp_path / "x.tflite", width=8, tensor=None
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.tflite"]
    (embedding,) = Model.load(tmp_path / "x.tflite").outputs
    assert (embedding.shape, embedding.dtype) == ((1, 8), "float32")


def test_a_classifier_is_cut(made: Path, tmp_path: Path):
    output = tmp_path / "cut.tflite"
    kinds.Classifier.make_extractor(
        made / "classifier.tflite", output, width=256, mean=None, std=None, tensor=None
    )
    assert output.read_bytes() == truncate(Model.load(made / "classifier.tflite")).to_bytes()


def test_another_width_than_expected_leaves_nothing(made: Path, tmp_path: Path):
    with pytest.raises(UserError, match="256 values; the backbone's width is 1024"):
        kinds.Classifier.make_extractor(
            made / "classifier.tflite", tmp_path / "x", width=1024, mean=None, std=None, tensor=None
        )
    assert list(tmp_path.iterdir()) == []


def test_an_extractor_gets_a_quantize_where_it_needs_one(made: Path, tmp_path: Path):
    for name, operators in (("extractor", 0), ("scaled", 1)):
        kinds.Extractor.make_extractor(
            made / f"{name}.tflite", tmp_path / name, width=256, mean=128, std=128
        )
        before, after = (
            Model.load(p).operators for p in (made / f"{name}.tflite", tmp_path / name)
        )
        assert [op.name for op in after] == ["QUANTIZE"] * operators + [op.name for op in before]


def test_a_compiled_extractor_gets_the_same_quantize(made: Path, tmp_path: Path):
    cpu, compiled = tmp_path / "extractor.tflite", tmp_path / "extractor_edgetpu.tflite"
    kinds.Extractor.make_extractor(made / "scaled.tflite", cpu, width=256, mean=127, std=128)
    take_compiled(
        made / "scaled_edgetpu.tflite", cpu, compiled, mean=127, std=128, allow_cpu_operators=False
    )
    models = [Model.load(path) for path in (cpu, compiled)]
    assert [op.name for op in models[1].operators] == ["QUANTIZE", "edgetpu-custom-op"]
    assert models[0].inputs == models[1].inputs
    first = [model.tensor(model.operators[0].outputs[0]) for model in models]
    assert first[0] == first[1]


def test_a_compiled_extractor_of_another_network_is_refused(made: Path, tmp_path: Path):
    for compiled, message in (
        (made / "extractor.tflite", "is not compiled for the Edge TPU"),
        (made / "scaled_edgetpu.tflite", r"differs in input, output or quantization"),
        (made / "none.tflite", "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            take_compiled(compiled, made / "extractor.tflite", tmp_path / "x", None, None, False)
        assert not (tmp_path / "x").exists()
    part = tmp_path / "part.tflite"
    part.write_bytes(stand_ins.compiled((made / "extractor.tflite").read_bytes(), on_cpu=True))
    arguments = (part, made / "extractor.tflite", tmp_path / "x", None, None)
    with pytest.raises(UserError, match="only partly compiled"):
        take_compiled(*arguments, False)
    take_compiled(*arguments, True)


def test_a_frozen_graph_is_cut(made: Path, tmp_path: Path, sample_photos: Path):
    output = tmp_path / "cut.tflite"
    kinds.FrozenGraph.make_extractor(
        FROZEN_GRAPH, output, width=256, mean=128, std=128, tensor=POOL, input="input"
    )
    found = Model.load(output)
    assert (found.inputs, found.outputs) == (
        (made_model := Model.load(made / "extractor.tflite")).inputs, made_model.outputs
    )  # fmt: skip
    runtimes = [look.runtime(p.read_bytes()) for p in (output, made / "extractor.tflite")]
    for path in sorted(sample_photos.glob("*/*.jpg"))[::60]:
        one, other = (look.invoke(runtime, resized(path, 96)) for runtime in runtimes)
        assert np.array_equal(one, other)


def test_a_feature_map_is_not_an_embedding(tmp_path: Path):
    tensor = "MobilenetV1/MobilenetV1/Conv2d_13_pointwise/act_quant/FakeQuantWithMinMaxVars"
    with pytest.raises(UserError, match=r"output of shape \[1, 3, 3, 256\]; an embedding is a vec"):
        kinds.FrozenGraph.make_extractor(
            FROZEN_GRAPH, tmp_path / "x", 256, 128, 128, tensor=tensor, input="input"
        )
    assert list(tmp_path.iterdir()) == []
