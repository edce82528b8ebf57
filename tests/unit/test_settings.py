"""The configuration: what it is taken for, and the sentences on what is wrong with it."""

import pytest
import yaml

from edgetpu_retrain.config.settings import Settings
from edgetpu_retrain.errors import UserError
from tests.conftest import ROOT

LEAST = {"dataset": "flowers", "backbone": "mobilenet"}


def test_the_shipped_configuration_has_the_defaults():
    shipped = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    least = Settings.parse({key: shipped[key] for key in LEAST})
    settings = Settings.parse(shipped)
    assert settings.model_copy(update={"compare": [], "compiler": least.compiler}) == least
    assert (settings.split.validation, settings.seed, settings.shards) == (0.1, 0, "auto")


def test_text_stands_for_numbers_and_booleans():
    """As Snakemake passes on the numbers of --config training={reg: 0.1}, and YAML reads 1e-3."""
    settings = Settings.parse(
        LEAST
        | {"seed": "7", "shards": "8", "max_skipped": "1e-3", "split": {"test": 0}}
        | {"training": {"recipe": "coral", "reg": "0.5", "num_iter": 8.0}}
        | {"compare": ["1", {"training": {"learning_rate": "0.5"}}]}
        | {"compiler": {"allow_cpu_operators": "True"}}
    )
    assert (settings.seed, settings.shards, settings.max_skipped) == (7, 8, 0.001)
    assert (settings.training.reg, settings.training.num_iter) == (0.5, 8)
    assert isinstance(settings.split.test, float)
    assert settings.compare[0] == "1"
    assert settings.compare[1].training.learning_rate == 0.5
    assert settings.compiler.allow_cpu_operators is True


def test_a_key_without_a_value_has_its_default():
    settings = Settings.parse(
        LEAST | {"corrections": None, "training": None, "split": {"test": None}}
    )
    assert settings == Settings.parse(LEAST)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sede": 1}, "there is no key 'sede'. Did you mean seed? Valid keys: backbone, bun"),
        ({"training": {"regg": 1}}, "there is no key 'training.regg'. Did you mean reg? Valid key"),
        ({"dataset": None}, "dataset is missing."),
        ({"dataset": 12}, "dataset is 12; expected text: a name, a folder, an archive"),
        ({"seed": "1.5"}, "seed is '1.5'; expected a whole number, 0 or greater."),
        ({"seed": True}, "seed is True; expected a whole number, 0 or greater."),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 or greater."),
        ({"max_skipped": float("nan")}, "max_skipped is nan; expected a number from 0 to 1."),
        (
            {"split": {"test": 1}},
            "split.test is 1; expected a number from 0 up to, but not including, 1.",
        ),
        (
            {"split": 0.5},
            "split is 0.5; expected a mapping with the keys validation, test and folders.",
        ),
        ({"shards": "many"}, "shards is 'many'; expected auto, or a whole number from 1 to 1000."),
        ({"shards": 10000}, "shards is 10000; expected auto, or a whole number from 1 to 1000."),
        ({"device": "tpu"}, "device is 'tpu'; expected auto, cpu, usb, pci, usb:N or pci:N."),
        ({"device": "cpu\n"}, "device is 'cpu\\n'; expected auto, cpu"),
        ({"none": "on"}, "none is 'on'; expected auto or false."),
        ({"strangers": "cats"}, "strangers is only used with none: auto"),
        ({"training": {"pseudo_labels": True}}, "training.pseudo_labels is only used with"),
        (
            {"compare": [{"training": {"pseudo_labels": True}}]},
            "training.pseudo_labels is only used",
        ),
        ({"training": {"pseudo_labels": "auto"}}, "training.pseudo_labels is 'auto'; expected t"),
        ({"frigate": "12"}, "frigate is '12'; expected the name of a custom classification"),
        (
            {"backbone": 5},
            "backbone is 5; expected the name of a backbone, or a mapping that describes",
        ),
        ({"compare": "x"}, "compare is 'x'; expected a list of backbones, or of mappings"),
        ({"compare": [{"training": {"reg": -1}}]}, "compare.0.training.reg is -1; expected a num"),
        ({"compare": [{"training": {"rg": 1}}]}, "there is no key 'compare.0.training.rg'. Did"),
        ({"compiler": {"sources": [{"md5": "0" * 32}]}}, "compiler.sources.0.url is missing."),
        (
            {"compiler": {"sources": [{"url": "http://x"}]}},
            "compiler.sources.0 is {'url': 'http://x'}; expected a list of mappings with",
        ),
        ({"compiler": {"sources": [{"url": "x"}]}}, "compiler.sources.0.url is 'x'; expected an"),
        (
            {"split": {"validation": 0.5, "test": 0.5}},
            "split.validation (0.5) and split.test (0.5)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(given, message):
    with pytest.raises(UserError) as error:
        Settings.parse(LEAST | given)
    assert str(error.value).startswith(f"config: {message}")
    assert "\n" not in str(error.value)


def test_every_mistake_is_named():
    with pytest.raises(UserError) as error:
        Settings.parse({"dataset": "x", "seed": "x", "training": {"recipe": "best"}})
    assert [line.split()[1] for line in str(error.value).splitlines()] == [
        "backbone", "seed", "training.recipe",
    ]  # fmt: skip
