import numpy as np
import pytest
from PIL import Image

from edgetpu_retrain.photos import preprocessing


@pytest.fixture
def photo() -> Image.Image:
    """Noise, 120 wide and 80 high."""
    values = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    return Image.fromarray(values)


def test_bilinear_averages_over_what_falls_into_a_pixel(photo):
    """A triangle of twice a pixel's width: the weights of 1, 3, 5, 7, 7, 5, 3, 1 for a quarter."""
    found = preprocessing.to_pixels(photo, (30, 20), "bilinear").astype(int)
    assert found.shape == (20, 30, 3)
    values, weights = np.asarray(photo, float), np.array([1, 3, 5, 7, 7, 5, 3, 1]) / 32
    for row, column in ((5, 7), (10, 20)):
        below = values[4 * row - 2 : 4 * row + 6, 4 * column - 2 : 4 * column + 6]
        expected = np.einsum("i,j,ijc->c", weights, weights, below)
        assert np.abs(found[row, column] - expected).max() <= 1


def test_nearest_takes_one_pixel(photo):
    found = preprocessing.to_pixels(photo, (30, 20), "nearest")
    assert np.array_equal(found, np.asarray(photo)[2::4, 2::4])


def test_bilinear_is_the_default(photo):
    assert np.array_equal(
        preprocessing.to_pixels(photo, (30, 20)),
        preprocessing.to_pixels(photo, (30, 20), "bilinear"),
    )


def test_another_way_has_another_version():
    assert preprocessing.version("nearest") != preprocessing.version("bilinear")


def test_what_other_models_take():
    values = np.array([0, 1, 127, 128, 255], np.uint8)
    found = preprocessing.as_dtype(values, np.dtype(np.int8))
    assert found.dtype == np.int8
    assert found.tolist() == [-128, -127, -1, 0, 127]
    found = preprocessing.as_dtype(values, np.dtype(np.float32))
    assert found.dtype == np.float32
    assert np.allclose(found, values / 127.5 - 1)
    assert preprocessing.as_dtype(values, np.dtype(np.uint8)).tolist() == values.tolist()
