"""Class names in a model: read by other programs' rules, and nothing else in the file changed."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter as Runtime
from ai_edge_litert.tools import flatbuffer_utils
from flatbuffers import encode, number_types, table

from edgetpu_retrain.head import Head, read_class_names
from edgetpu_retrain.tflite import metadata
from edgetpu_retrain.tflite.append_head import append_head
from edgetpu_retrain.tflite.model import Model
from edgetpu_retrain.tflite.raw_input import take_raw_rgb

CLASSES = ("daisy", "Löwenzahn", "10 roses")
EXTRACTOR = "mobilenet_v1_1.0_224_quant_embedding_extractor"


class Table:
    """A FlatBuffers table, its fields found by their number in the schema."""

    def __init__(self, data: bytes, position: int):
        self.table = table.Table(bytearray(data), position)

    @classmethod
    def root(cls, data: bytes) -> "Table":
        return cls(data, encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))

    def _at(self, number: int) -> int:
        offset = self.table.Offset(4 + 2 * number)
        assert offset, f"there is no field {number}"
        return self.table.Pos + offset

    def byte(self, number: int) -> int:
        return self.table.Get(number_types.Int8Flags, self._at(number))

    def text(self, number: int) -> str:
        return self.table.String(self._at(number)).decode()

    def child(self, number: int) -> "Table":
        return Table(bytes(self.table.Bytes), self.table.Indirect(self._at(number)))

    def children(self, number: int) -> Iterator["Table"]:
        offset = self._at(number) - self.table.Pos
        start = self.table.Vector(offset)
        for i in range(self.table.VectorLen(offset)):
            yield Table(bytes(self.table.Bytes), self.table.Indirect(start + 4 * i))

    def floats(self, number: int) -> list[float]:
        offset = self._at(number) - self.table.Pos
        return self.table.GetVectorAsNumpy(number_types.Float32Flags, offset).tolist()


def classifier(extractor: Path) -> Model:
    model = Model.load(extractor)
    width = model.outputs[0].shape[-1]
    weights = np.random.default_rng(0).normal(0, 0.05, (width, len(CLASSES))).astype(np.float32)
    biases = np.zeros(len(CLASSES), np.float32)
    return append_head(model, Head(weights, biases, (-5.0, 5.0), CLASSES))


@pytest.fixture(params=["extractor", "extractor_edgetpu"])
def file(request, made: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    model = classifier(made / f"{request.param}.tflite")
    path.write_bytes(metadata.with_class_names(model, CLASSES))
    return path


def test_the_labels_are_a_stored_file_of_the_archive(file: Path):
    with zipfile.ZipFile(file) as archive:
        (entry,) = archive.infolist()
        # MediaPipe and TFLite's task library refuse compressed ones.
        assert entry.compress_type == zipfile.ZIP_STORED
        assert archive.read("labels.txt").decode() == "daisy\nLöwenzahn\n10 roses\n"


def metadata_of(content: bytes) -> Table:
    packed = schema.Model.GetRootAs(content, 0)
    entries = {
        packed.Metadata(i).Name(): packed.Metadata(i).Buffer()
        for i in range(packed.MetadataLength())
    }
    found = packed.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert found[4:8] == b"M001"
    return Table.root(found)


def test_the_table_says_what_the_schema_asks(file: Path):
    """Field numbers as in metadata_schema.fbs, version 1.1.0."""
    model = metadata_of(file.read_bytes())
    (subgraph,) = model.children(3)
    (image,) = subgraph.children(2)
    assert (image.child(3).byte(0), image.child(3).child(1).byte(0)) == (2, 1)  # an RGB image
    (unit,) = image.children(4)
    assert unit.byte(0) == 1  # normalization
    # What the sample's network was trained with.
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([128.0], [128.0])
    (scores,) = subgraph.children(3)
    assert (scores.child(5).floats(0), scores.child(5).floats(1)) == ([1.0], [0.0])
    (labels,) = scores.children(6)
    assert (labels.text(0), labels.byte(2)) == ("labels.txt", 2)  # labels of the tensor's axis
    assert model.text(7) == "1.0.0"


def test_the_normalization_is_that_of_raw_pixels(made: Path):
    """A network with another input than pixels takes them through a QUANTIZE in front."""
    model = take_raw_rgb(Model.load(made / "scaled.tflite"), mean=131, std=80)
    content = metadata.with_class_names(model, ["x"] * 256)
    (subgraph,) = metadata_of(content).children(3)
    (image,) = subgraph.children(2)
    (unit,) = image.children(4)
    assert (unit.child(1).floats(0), unit.child(1).floats(1)) == ([131.0], [80.0])


def test_the_compiled_operator_stays_byte_for_byte(models: Path):
    published = models / f"{EXTRACTOR}_edgetpu.tflite"
    content = metadata.with_class_names(classifier(models / f"{EXTRACTOR}_edgetpu.tflite"), CLASSES)
    options = [
        bytes(schema.ModelT.InitFromPackedBuf(c, 0).subgraphs[0].operators[0].customOptions)
        for c in (published.read_bytes(), content)
    ]
    assert options[0] == options[1]
    assert b"DWN1" in options[0]


def assert_stops_at_the_compiled_operator(model: Path) -> None:
    """As far as a runtime gets without an Edge TPU."""
    with pytest.raises(RuntimeError, match="unresolved custom op: edgetpu-custom-op") as error:
        Runtime(str(model)).allocate_tensors()
    assert "invalid" not in str(error.value)


def test_a_compiled_classifier_loads_as_far_as_the_published_file(models: Path, tmp_path: Path):
    published = models / f"{EXTRACTOR}_edgetpu.tflite"
    content = metadata.with_class_names(classifier(published), CLASSES)
    (tmp_path / "model.tflite").write_bytes(content)
    for path in (published, tmp_path / "model.tflite"):
        assert_stops_at_the_compiled_operator(path)


def test_an_empty_buffer_stays_nobody_s_values(made: Path, tmp_path: Path):
    """Published compiled files begin with a buffer that is there, and empty."""
    unpacked = schema.ModelT.InitFromPackedBuf((made / "extractor_edgetpu.tflite").read_bytes(), 0)
    unpacked.buffers[0].data = np.array([], np.uint8)
    extractor = tmp_path / "extractor.tflite"
    extractor.write_bytes(flatbuffer_utils.convert_object_to_bytearray(unpacked))
    path = tmp_path / "model.tflite"
    path.write_bytes(classifier(extractor).to_bytes())
    assert_stops_at_the_compiled_operator(path)


def test_scores_are_those_without_names(made: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    model = classifier(made / "extractor.tflite")
    scores = []
    for content in (model.to_bytes(), metadata.with_class_names(model, CLASSES)):
        runtime = Runtime(model_content=content)
        runtime.allocate_tensors()
        runtime.set_tensor(runtime.get_input_details()[0]["index"], pixels)
        runtime.invoke()
        scores.append(runtime.get_tensor(runtime.get_output_details()[0]["index"]))
    assert np.array_equal(*scores)


def test_earlier_names_are_replaced(made: Path):
    extractor = made / "extractor.tflite"
    named = metadata.with_class_names(classifier(extractor), ("x", "y", "z"))
    again = metadata.with_class_names(Model.parse(named, "named"), CLASSES)
    assert again == metadata.with_class_names(classifier(extractor), CLASSES)


def test_names_are_read_back(file: Path):
    assert read_class_names(file, 3) == CLASSES
    assert read_class_names(file, 4) is None


def test_other_programs_files(made: Path, tmp_path: Path):
    other = Path(shutil.copy(made / "extractor.tflite", tmp_path / "other.tflite"))
    assert read_class_names(other, 3) is None
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("readme.txt", "a line\n")
        archive.writestr("names.txt", "a\nb\nc")
    assert read_class_names(other, 3) == ("a", "b", "c")
