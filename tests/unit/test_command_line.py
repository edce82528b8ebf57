"""What a command needs from the machine is checked before anything is done."""

from pathlib import Path

import pytest

from edgetpu_retrain.errors import UserError
from edgetpu_retrain.workflow import command_line


def test_a_folder_that_cannot_be_written_to():
    # Nobody can create files there, not even root.
    with pytest.raises(UserError, match=r"the folder /proc cannot be written to .*--directory"):
        command_line.check_machine(["--cores", "1", "--directory", "/proc", "--", "bundle"])
    with pytest.raises(UserError, match="the folder /proc cannot be written to"):
        command_line.check_machine(["--directory=/proc"])


@pytest.mark.parametrize(
    ("options", "program"),
    [
        (["--use-conda"], "conda"),
        (["--sdm", "conda"], "conda"),
        (["--software-deployment-method=apptainer"], "apptainer"),
        (["--sdm", "conda", "apptainer"], "apptainer"),
    ],
)
def test_a_program_that_is_not_installed(
    options: list[str], program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    if "conda" in options and program != "conda":
        (tmp_path / "conda").touch(mode=0o755)
    with pytest.raises(UserError, match=f"{program} is not installed"):
        command_line.check_machine([*options, "--cores", "1"])
    # Apptainer's old name does, too.
    for name in ("conda", "singularity"):
        (tmp_path / name).touch(mode=0o755)
    command_line.check_machine([*options, "--cores", "1"])


def test_a_usual_command_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    command_line.check_machine(["--cores", "1", "--config", "a=b"])
    assert list(tmp_path.iterdir()) == []
