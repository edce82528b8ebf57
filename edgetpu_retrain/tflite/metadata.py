"""Store in a model what its users need: class names, as TFLite Metadata, and how to resize photos.

The format (https://ai.google.dev/edge/litert/models/metadata) is a FlatBuffers table
(metadata_schema.fbs in tensorflow/tflite-support) in a buffer of the model, and an uncompressed ZIP
archive appended to the model with the files that the table names. The file `RESIZE` in it is our
own; other programs ignore it.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgetpu_retrain.head import RESIZE
from edgetpu_retrain.io import files
from edgetpu_retrain.tflite.integrity import or_empty
from edgetpu_retrain.tflite.model import Model

LABELS = "labels.txt"
_ENTRY = "TFLITE_METADATA"
_FILE_IDENTIFIER = b"M001"
# All fields written here are in the first version of the schema.
_MIN_PARSER_VERSION = "1.0.0"

# Values of unions and enums in metadata_schema.fbs.
_FEATURE, _IMAGE = 1, 2
_RGB = 1
_NORMALIZATION = 1
_TENSOR_AXIS_LABELS = 2

# A table: field number -> a byte, a string, a table, or a vector of tables or floats.
_Table = Mapping[int, "int | str | _Table | Sequence[float] | Sequence[_Table]"]


def with_class_names(model: Model, classes: Sequence[str], resize: str = "bilinear") -> bytes:
    """Returns a classifier's .tflite file, including its class names and how photos are resized.

    Existing metadata is replaced. Operators, including compiled ones, are unchanged.

    Args:
        model: a model with one RGB image as input and one score per class as output; it is
            modified in place.
        classes: class names, in the order of the scores.
        resize: as for `preprocessing.to_pixels`.
    """
    _set_metadata(model, _pack(_describe(model, classes)))
    file = io.BytesIO(model.to_bytes())
    # In mode "a" the offsets count from the start of the model, which readers expect.
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        # ZipInfo has a constant date, so equal models give identical files.
        entry = zipfile.ZipInfo(LABELS)
        archive.writestr(entry, "".join(f"{name}\n" for name in classes))
        if resize != "bilinear":
            archive.writestr(zipfile.ZipInfo(RESIZE), resize)
    return file.getvalue()


def save_with_class_names(
    model: Model, classes: Sequence[str], path: str | Path, resize: str = "bilinear"
) -> None:
    """Writes the result of `with_class_names` to `path`."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(with_class_names(model, classes, resize))


def _describe(model: Model, classes: Sequence[str]) -> _Table:
    """Returns the table ModelMetadata of a classifier."""
    (image,) = model.inputs
    height, width = image.shape[1:3]
    # The inverse of the input's quantization, so that raw pixels are passed on unchanged.
    mean, std = float(image.zero_point or 0), 1 / (image.scale or 1)
    input_metadata: _Table = {
        0: "image",
        1: f"RGB picture of {width} x {height} pixels, stretched; raw bytes.",
        3: {0: _IMAGE, 1: {0: _RGB}},
        4: [{0: _NORMALIZATION, 1: {0: [mean], 1: [std]}}],
        5: {0: [255.0], 1: [0.0]},
    }
    output_metadata: _Table = {
        0: "scores",
        1: "One score per class; together they are 1.",
        3: {0: _FEATURE, 1: {}},
        5: {0: [1.0], 1: [0.0]},
        6: [{0: LABELS, 1: "Names of the classes.", 2: _TENSOR_AXIS_LABELS}],
    }
    return {
        0: "image classifier",
        1: f"Tells {len(classes)} classes apart.",
        3: [{2: [input_metadata], 3: [output_metadata]}],
        7: _MIN_PARSER_VERSION,
    }


def _pack(table: _Table) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(_add(builder, table), _FILE_IDENTIFIER)
    return bytes(builder.Output())


def _add(builder: flatbuffers.Builder, value: object) -> int:
    """Adds a string, a table or a vector to the buffer, children first; returns its offset."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, Mapping):
        fields = {
            number: field if isinstance(field, int) else _add(builder, field)
            for number, field in value.items()
        }
        builder.StartObject(max(fields, default=-1) + 1)
        for number, field in fields.items():
            if isinstance(value[number], int):
                builder.PrependByteSlot(number, field, 0)
            else:
                builder.PrependUOffsetTRelativeSlot(number, field, 0)
        return int(builder.EndObject())
    assert isinstance(value, list)
    if isinstance(value[0], float):
        return int(builder.CreateNumpyVector(np.array(value, np.float32)))
    offsets = [_add(builder, item) for item in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _set_metadata(model: Model, packed: bytes) -> None:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(packed, np.uint8)
    entries = list(or_empty(model.unpacked.metadata))
    for entry in entries:
        if entry.name in (_ENTRY, _ENTRY.encode()):
            model.unpacked.buffers[entry.buffer] = buffer
            return
    entry = schema.MetadataT()
    entry.name = _ENTRY
    model.unpacked.buffers.append(buffer)
    entry.buffer = len(model.unpacked.buffers) - 1
    model.unpacked.metadata = [*entries, entry]
