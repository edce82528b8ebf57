"""Which classes are among a network's labels, on the published list of birds."""

from pathlib import Path

import pytest

from edgetpu_retrain.backbone.known_classes import check_labels, find_known
from edgetpu_retrain.errors import UserError

BIRDS = "mobilenet_v2_1.0_224_inat_bird_quant"


@pytest.fixture
def birds(models: Path) -> dict[str, Path]:
    return {BIRDS: models / "inat_bird_labels.txt"}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("robin", "Erithacus rubecula (European Robin)"),
        ("American_Robins", "Turdus migratorius (American Robin)"),
        ("Turdus merula", "Turdus merula (Eurasian Blackbird)"),
        ("TURDUS", "Turdus merula (Eurasian Blackbird)"),
        ("house-sparrow", "Passer domesticus (House Sparrow)"),
        ("001.Black_footed_Albatross", "Phoebastria nigripes (Black-footed Albatross)"),
        ("stellers jay", "Cyanocitta stelleri (Steller's Jay)"),
        ("Steller’s Jay", "Cyanocitta stelleri (Steller's Jay)"),
        ("Passer domesticus (Spatz)", "Passer domesticus (House Sparrow)"),
        ("ＲＯＯＫ", "Corvus frugilegus (Rook)"),
        ("goldfinches", "Spinus tristis (American Goldfinch)"),
        ("Anser anser", "Anser anser domesticus (Domestic Goose)"),
        ("northern harrier", "Circus cyaneus hudsonius (Northern Harrier (American))"),
        ("silvereye", "Zosterops lateralis lateralis (Silvereye (ssp. lateralis))"),
    ],
)
def test_a_class_is_known_by_name(name: str, line: str, birds: dict[str, Path]):
    assert line in birds[BIRDS].read_text("utf-8").splitlines()
    assert find_known(["bolt", name], birds) == {BIRDS: [name]}


@pytest.mark.parametrize(
    "name",
    # Parts of names that say nothing of the bird, and the class for everything else.
    [
        "American",
        "blue",
        "house",
        "common",
        "merula",
        "ssp",
        "background",
        "none",
        "",
        "7",
        "ツグミ",
    ],
)
def test_a_class_is_not_known(name: str, birds: dict[str, Path]):
    assert find_known([name, "tulip"], birds) == {}


def test_the_network_that_knows_most_comes_first(tmp_path: Path):
    lists = {
        "plants": "Bellis perennis (Common Daisy)\nEuphoria basalis ()\nbackground\n",
        "trees": "Taxus baccata (English Yew)\n",
        "flowers": "Bellis perennis (Common Daisy)\r\nRosa canina (Dog Rose)\r\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_bytes(text.encode())
    paths = {name: tmp_path / name for name in lists}
    known = find_known(["roses", "daisies", "screw"], paths)
    assert list(known.items()) == [("flowers", ["roses", "daisies"]), ("plants", ["daisies"])]
    assert find_known(["euphoria"], paths) == {"plants": ["euphoria"]}


def test_a_list_that_cannot_be_read_knows_nothing(tmp_path: Path):
    (tmp_path / "damaged").write_bytes(b"\xff\xfe Turdus (Robin)\nErithacus rubecula (Robin)")
    paths = {"gone": tmp_path / "gone", "damaged": tmp_path / "damaged"}
    assert find_known(["robin"], paths) == {"damaged": ["robin"]}


def test_only_a_list_of_labels_is_one(tmp_path: Path, birds: dict[str, Path]):
    check_labels(birds[BIRDS])
    for text in ("", "<html>\n<body>Log in (here)</body>\n</html>\n", "tench\ngoldfish\n"):
        (tmp_path / "list").write_text(text)
        with pytest.raises(UserError, match="not a list of labels"):
            check_labels(tmp_path / "list")
