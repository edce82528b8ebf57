"""Reading, changing and writing .tflite files, odd and damaged ones too."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.tflite.__main__ import show
from edgetpu_retrain.tflite.model import Model, TensorSpec
from edgetpu_retrain.tflite.truncate import truncate
from tests import models as look
from tests.pictures import resized


@pytest.fixture(scope="module")
def classifier(made: Path) -> bytes:
    return (made / "classifier.tflite").read_bytes()


def parse(content: bytes) -> Model:
    return Model.parse(content, "x.tflite")


def test_what_a_model_takes_and_gives(classifier: bytes):
    """The runtime's own details of the same file."""
    details = look.runtime(classifier)
    model = parse(classifier)
    for found, (expected,) in (
        (model.inputs, details.get_input_details()),
        (model.outputs, details.get_output_details()),
    ):
        scale, zero_point = expected["quantization"]
        shape, dtype = tuple(expected["shape"].tolist()), np.dtype(expected["dtype"]).name
        (spec,) = found
        assert spec == TensorSpec(spec.name, shape, dtype, pytest.approx(scale), zero_point)
        # The runtime's names end in the signature's.
        assert expected["name"].startswith(spec.name)
    assert not model.is_compiled
    assert model.darwinn_packages == 0


def test_the_operators_are_those_of_the_runtime(made: Path):
    content = (made / "int8.tflite").read_bytes()
    expected = [
        op["op_name"]
        for op in look.runtime(content, "reference")._get_ops_details()
        if op["op_name"] != "DELEGATE"
    ]
    assert [operator.name for operator in parse(content).operators] == expected


def test_a_compiled_model(made: Path):
    model = Model.load(made / "extractor_edgetpu.tflite")
    assert [operator.name for operator in model.operators] == ["edgetpu-custom-op"]
    assert (model.is_compiled, model.darwinn_packages) == (True, 1)


@pytest.mark.parametrize("name", ["classifier", "int8", "float"])
def test_a_model_that_is_written_computes_the_same(made: Path, sample_photos: Path, name):
    content = (made / f"{name}.tflite").read_bytes()
    again = Model.load(made / f"{name}.tflite").to_bytes()
    runtimes = [look.runtime(model) for model in (content, again)]
    dtype = runtimes[0].get_input_details()[0]["dtype"]
    for path in sorted(sample_photos.glob("*/*.jpg"))[::50]:
        pixels = resized(path, 96).astype(dtype)
        one, other = (look.invoke(runtime, pixels) for runtime in runtimes)
        assert np.array_equal(one, other)
    assert Model.parse(again, "x").to_bytes() == again


def test_a_copy_can_be_changed(classifier: bytes):
    model = parse(classifier)
    other = model.copy()
    other.subgraph.operators.pop()
    other.add_constant("x", np.zeros(3, np.float32))
    assert model.to_bytes() == parse(classifier).to_bytes()


def by_offset(content: bytes) -> bytes:
    """A model whose buffers stand behind it, as ai-edge-quantizer writes them.

    The Python packer cannot place them: the numbers in the file are put right by hand.
    """
    model = look.unpack(content)
    data = [bytes(b.data) if b.data is not None and len(b.data) else b"" for b in model.buffers]
    for buffer, values in zip(model.buffers, data, strict=True):
        if values:
            buffer.data, buffer.offset, buffer.size = None, 2, len(values)
    # Offsets and sizes of 64 bits have the same place whatever they are.
    length = len(look.pack(model))
    end, behind = length, []
    for buffer, values in zip(model.buffers, data, strict=True):
        if values:
            padding = -end % 16
            behind.append(b"\0" * padding + values)
            buffer.offset = end + padding
            end += padding + len(values)
    packed = look.pack(model)
    assert len(packed) == length
    return packed + b"".join(behind)


def check_buffers_by_offset(content: bytes, pictures: list[np.ndarray]) -> None:
    """Cutting a model with such buffers keeps its weights: it computes what the whole one does."""
    packed = schema.Model.GetRootAs(content, 0)
    assert any(packed.Buffers(i).Offset() > 1 for i in range(packed.BuffersLength()))
    cut = truncate(parse(content))
    whole = look.runtime(content, "reference", experimental_preserve_all_tensors=True)
    extractor = look.runtime(cut.to_bytes(), "reference")
    (embedding,) = cut.outputs
    (index,) = (
        d["index"]
        for d in whole.get_tensor_details()
        if d["name"].split(";")[0] == embedding.name and tuple(d["shape"]) == embedding.shape
    )
    for picture in pictures:
        look.invoke(whole, picture)
        found = look.invoke(extractor, picture)
        assert np.array_equal(found, whole.get_tensor(index))
        assert len(np.unique(found)) > 5


def test_buffers_behind_the_model_are_read(classifier: bytes, sample_photos: Path):
    content = by_offset(classifier)
    pictures = [resized(path, 96) for path in sorted(sample_photos.glob("*/*.jpg"))[::75]]
    # The runtime itself reads what was made here.
    assert np.array_equal(
        look.invoke(look.runtime(content), pictures[0]),
        look.invoke(look.runtime(classifier), pictures[0]),
    )
    check_buffers_by_offset(content, pictures)


def test_a_quantizer_s_buffers_behind_the_model_are_read(models: Path, photos: Path):
    content = (models / "efficientnet_lite0_int8_offset_buffers.tflite").read_bytes()
    pictures = [
        # int8 with the scale of (pixel - 127) / 128.
        (resized(path, 224).astype(int) - 127).clip(-128, 127).astype(np.int8)
        for path in sorted(photos.glob("*/*.jpg"))[::250]
    ]
    check_buffers_by_offset(content, pictures)


def test_buffers_behind_the_model_that_are_cut_short_are_refused(classifier: bytes):
    content = by_offset(classifier)
    with pytest.raises(UserError, match=r"damaged or incomplete.*extends beyond the end"):
        parse(content[:-5])


def with_no_subgraph(model: schema.ModelT) -> None:
    model.subgraphs = []


def with_no_operators(model: schema.ModelT) -> None:
    model.subgraphs[0].operators = None


def with_a_tensor_too_few(model: schema.ModelT) -> None:
    model.subgraphs[0].tensors.pop()


def with_a_buffer_too_few(model: schema.ModelT) -> None:
    model.buffers.pop()


def with_an_operator_code_too_few(model: schema.ModelT) -> None:
    model.operatorCodes.pop()


def with_no_tensors(model: schema.ModelT) -> None:
    model.subgraphs[0].tensors = None


def with_no_buffers(model: schema.ModelT) -> None:
    model.buffers = None


def with_a_signature_of_another_subgraph(model: schema.ModelT) -> None:
    signature = schema.SignatureDefT()
    signature.subgraphIndex = 7
    model.signatureDefs = [signature]


@pytest.mark.parametrize(
    "damage",
    [
        with_no_subgraph,
        with_no_operators,
        with_no_tensors,
        with_no_buffers,
        with_a_tensor_too_few,
        with_a_buffer_too_few,
        with_an_operator_code_too_few,
        with_a_signature_of_another_subgraph,
    ],
)
def test_a_file_that_refers_to_what_is_not_there_is_refused(classifier: bytes, damage):
    with pytest.raises(UserError, match=r"^x\.tflite is a damaged or incomplete TFLite model"):
        parse(look.changed(classifier, damage))


def test_no_cut_of_a_file_hangs_or_gives_a_traceback(classifier: bytes):
    for length in range(0, len(classifier), len(classifier) // 40):
        with pytest.raises(UserError, match=r"^x\.tflite is "):
            parse(classifier[:length])


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(UserError, match=r"none\.tflite cannot be read: No such file"):
        Model.load(tmp_path / "none.tflite")


def without_shapes(model: schema.ModelT) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.shape = None


def without_names(model: schema.ModelT) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.name = None


def without_vectors(model: schema.ModelT) -> None:
    """An operator that says nothing of what it reads and writes."""
    model.subgraphs[0].operators[0].inputs = None
    model.subgraphs[0].operators[-1].outputs = None


def without_inputs_and_outputs(model: schema.ModelT) -> None:
    model.subgraphs[0].inputs = model.subgraphs[0].outputs = None


def with_signatures_of_nothing(model: schema.ModelT) -> None:
    signature = schema.SignatureDefT()
    signature.inputs, signature.outputs, signature.signatureKey = None, None, b"x"
    model.signatureDefs = [signature]


def with_an_operator_of_the_future(model: schema.ModelT) -> None:
    model.operatorCodes[0].builtinCode = 999


@pytest.mark.parametrize(
    "change",
    [
        without_shapes,
        without_names,
        without_vectors,
        without_inputs_and_outputs,
        with_signatures_of_nothing,
        with_an_operator_of_the_future,
    ],
)
def test_odd_models_are_shown_or_refused(classifier: bytes, change):
    try:
        model = parse(look.changed(classifier, change))
    except UserError as error:
        assert str(error).startswith("x.tflite is a damaged or incomplete")
    else:
        assert "compiled for the Edge TPU: no" in show(model)
