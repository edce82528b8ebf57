from pathlib import Path

import pytest

from edgetpu_retrain.config import yaml_syntax
from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import command_line
from tests.conftest import ROOT

SHIPPED = (ROOT / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("dataset: a\nsplit:\n\ttest: 0.1\n", 3, "there is a tab; indent with spaces"),
        ("seed: 0\ndataset: 'flowers\nshards: 8\n", 2, "a quote is opened but not closed"),
        ("dataset: 'a\nseed: 0\nresize: 'nearest'\n", 1, "opened here is not closed until line 3"),
        ("dataset flowers\nseed: 0\n", 1, "a key has no colon after it"),
        ("dataset:flowers\nseed: 0\n", 1, "colon is not followed by a space"),
        ("seed: 0\n dataset: flowers\n", 2, "check the indentation"),
        ("split:\n  test: 0.1\n validation: 0.1\n", 3, "not indented like those above"),
        ("seed: 0\nbackbone: {name: x, tflite: y\nshards: 1\n", 2, "brace is not closed"),
        ('dataset: "C:\\x"\n', 1, "use single quotes"),
        ("dataset: @birds\n", 1, "put the text in quotes"),
        ("seed: 0\nshards: 1\nseed: 1\n", 3, "the key 'seed' is already in line 1"),
        ("split: {test: 0.1, test: 0.2}\n", 1, "the key 'test' is already in line 1"),
    ],
)
def test_what_is_wrong_in_which_line(tmp_path: Path, text: str, line: int, what: str):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        yaml_syntax.check(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert what in str(error.value)


def test_a_quote_missing_in_the_shipped_file(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(SHIPPED.replace("\ndataset: flowers", '\ndataset: "flowers'))
    with pytest.raises(UserError, match=r'the quote opened here.*\n  dataset: "flowers$'):
        yaml_syntax.check(path)


@pytest.mark.parametrize("text", [SHIPPED, '\ufeff{"seed": 1}', "a: {b: 1}\nc: {b: 1}\n"])
def test_good_files(tmp_path: Path, text: str):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    yaml_syntax.check(path)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"\xff\xfe\x00", b"words\n", b"a: \0\n"])
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        yaml_syntax.check(path)
    with pytest.raises(UserError, match="No such file"):
        yaml_syntax.check(tmp_path / "none.yaml")


def test_targets_that_options_take_for_theirs(tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("seed: 1\n")
    for wrong, right in (
        ("--config seed=1 a.tflite --cores 2", "--config seed=1 --cores 2 -- a.tflite"),
        (f"--configfile {mine} a.tflite", f"--configfile {mine} -- a.tflite"),
        (f"-n --configfile {mine} a -- b", f"-n --configfile {mine} -- a b"),
    ):
        with pytest.raises(UserError) as error:
            command_line.check(wrong.split())
        assert str(error.value).endswith(f"\n  snakemake {right}")
        command_line.check(right.split())
    command_line.check(["--cores", "2", "a.tflite", "--config", "seed=1"])
    command_line.check(["--configfile", str(mine), str(mine), "--cores", "2", "a.tflite"])
    with pytest.raises(UserError, match="Quote the whole setting"):
        command_line.check(["--config", "backbone={name:", "x}"])


def test_aliases_are_counted_as_what_they_stand_for(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &x {b: [1, 2, 3]}\nc: *x\nd:\n  <<: *x\n  e: *x\n")
    yaml_syntax.check(path)
    bomb = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    bomb += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(bomb))
    with pytest.raises(UserError, match=r"line 6: with all aliases .* more than 100000 values"):
        yaml_syntax.check(path)
    path.write_text("seed: 0\na: &a [1, *a]\n")
    with pytest.raises(UserError, match=r"line 2: with all aliases"):
        yaml_syntax.check(path)
    path.write_text("a: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(UserError, match="nested too deeply"):
        yaml_syntax.check(path)
