"""What cannot start is one message and exit code 1."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.explorer.conftest import Site
from tfmi.cli.explorer import main


def refusal(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """The one line that the program ends with."""
    assert main(list(flags)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_flags_that_make_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    model = ("--model-base-path", str(tmp_path / "m"))
    assert "required: --model-base-path" in refusal(capsys)
    assert "--nonsense" in refusal(capsys, *model, "--nonsense")
    assert "invalid int value" in refusal(capsys, *model, "--port", "many")
    assert "--port 70000: expected 0 to 65535" in refusal(capsys, *model, "--port", "70000")
    assert "--versions 0: expected at least 1" in refusal(capsys, *model, "--versions", "0")
    assert "--server localhost: expected an address such as" in refusal(capsys, *model, "--server", "localhost")
    assert "once for each --model-base-path (1)" in refusal(capsys, *model, "--model-name", "a", "--model-name", "b")
    assert "two models are called 'm'" in refusal(capsys, *model, *model)


def test_folders_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "empty").mkdir()
    assert "no such folder; train and export" in refusal(capsys, "--model-base-path", str(tmp_path / "nowhere"))
    assert "holds no version folder (1, 2, ...); export" in refusal(capsys, "--model-base-path", str(tmp_path / "empty"))
    (tmp_path / "empty" / "saved_model.pb").touch()
    assert "this is a version; give the folder that holds it" in refusal(capsys, "--model-base-path", str(tmp_path / "empty"))
    assert str(tmp_path / "7") in refusal(capsys, "--model-base-path", str(tmp_path), "--port", "0")


@pytest.mark.slow
def test_a_busy_port(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = refusal(capsys, "--model-base-path", str(site.models / "toy"), "--port", str(port))
    assert f"cannot listen for REST on 127.0.0.1:{port}" in message
    assert "choose another port with --port" in message


@pytest.mark.slow
def test_a_column_of_pictures_that_is_not_there(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "--model-base-path", str(site.models / "toy"), "--port", "0", "--allow-images", "imagee")
    assert "no text column of that name (did you mean 'image'?)" in message
