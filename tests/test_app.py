"""How `aion-proxy serve` ends when it cannot begin: one sentence for each mistake, and an exit code."""

import pytest

from proxy.app import DONE, FAILED, WRONG, serve
from specimens import CATALOG_FILE

GATEWAY = """\
server: {{listen: "{listen}", admin_listen: "127.0.0.1:0", stop_delay: 0s}}
data_dir: {folder}/data
store: "unix://{folder}/nobody.sock"
providers: {{one: {{base_url: "http://127.0.0.1:1/v1"}}}}
"""


def written(folder, listen: str = "127.0.0.1:0"):
    (folder / "catalog.yaml").write_text(CATALOG_FILE)
    path = folder / "gateway.yaml"
    path.write_text(GATEWAY.format(listen=listen, folder=folder))
    return path


def test_its_exit_codes_are_those_of_every_command():
    assert (DONE, FAILED, WRONG) == (0, 1, 2)


def test_every_mistake_of_a_configuration_is_told_before_anything_is_started(tmp_path, capsys):
    path = written(tmp_path, listen="nowhere")
    path.write_text(path.read_text() + "colour: red\n")
    assert serve(path) == WRONG
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 2
    assert all(line.startswith(f"{path}: ") for line in err)
    assert not (tmp_path / "data").exists()


def test_a_configuration_that_is_not_there_is_a_mistake(tmp_path, capsys):
    assert serve(tmp_path / "gateway.yaml") == WRONG
    assert "--config" in capsys.readouterr().err


def test_an_address_that_cannot_be_had_is_a_failure_that_says_what_to_do(tmp_path, capsys):
    assert serve(written(tmp_path, listen="192.0.2.1:0")) == FAILED
    err = capsys.readouterr().err
    assert err.startswith("aion-proxy: cannot listen on 192.0.2.1:0: ")
    assert "choose another address" in err


@pytest.mark.parametrize("listen", ["192.0.2.1:0"])
def test_after_a_failure_nothing_is_left_behind(tmp_path, listen, capsys, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert serve(written(tmp_path, listen=listen)) == FAILED
    assert list(temporary.iterdir()) == []
    assert capsys.readouterr().err
