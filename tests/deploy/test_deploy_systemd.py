"""The unit for systemd starts, reloads and stops the gateway as the gateway wants to be."""

import configparser
import shlex
import shutil
import subprocess

import pytest
from gateway_process import ROOT

from proxy.cli_parser import build_parser
from proxy.configuration import load
from proxy.supervisor import LEDGER_SECONDS, STOP_MARGIN

UNIT = ROOT / "deploy" / "aion-proxy.service"
LINES = [line.split("=", 1) for line in UNIT.read_text("utf-8").splitlines() if "=" in line and line[0] != "#"]
SERVICE = dict(LINES)
ENVIRON = dict(value.split("=", 1) for name, value in LINES if name == "Environment")


def test_it_starts_what_the_command_takes():
    _, *words = SERVICE["ExecStart"].split()
    assert build_parser().parse_args(words).command == "serve"


def test_it_reloads_by_the_signal_that_the_gateway_reads_its_files_at():
    assert SERVICE["ExecReload"] == "/bin/kill -HUP $MAINPID"


def test_its_variables_are_settings_of_the_gateway_and_its_data_is_where_it_may_write():
    own = {name: value for name, value in ENVIRON.items() if name != "AION_PROXY_CONFIG"}
    settings = load(ROOT / "config" / "gateway.yaml", own).settings
    assert str(settings.data_dir) == f"/var/lib/{SERVICE['StateDirectory']}"


def test_a_gateway_that_stops_is_given_the_time_that_it_takes():
    settings = load(ROOT / "config" / "gateway.yaml", {}).settings
    takes = settings.server.stop_delay + settings.server.stop_grace + STOP_MARGIN + LEDGER_SECONDS
    assert float(SERVICE["TimeoutStopSec"]) > takes
    assert SERVICE["KillMode"] == "mixed", "workers are told to stop by their supervisor, not before it"


def test_a_command_is_run_with_what_the_unit_is_run_with():
    text = UNIT.read_text("utf-8")
    shown = text[text.index("#   systemd-run") : text.index("[Unit]")].replace("\\\n#", " ").removeprefix("#").strip()
    words = shlex.split(shown)
    for name in ("DynamicUser", "User", "StateDirectory", "StateDirectoryMode"):
        assert f"{name}={SERVICE[name]}" in words
    assert "Environment=" + " ".join(f"{name}={value}" for name, value in ENVIRON.items()) in words
    place = words.index(SERVICE["ExecStart"].split()[0])
    assert build_parser().parse_args(words[place + 1 :]).command == "accounts"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
def test_systemd_understands_every_line(tmp_path):
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text("utf-8").replace("/opt/aion-proxy/bin/aion-proxy", "/bin/true"), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", here], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert ours == []


def test_it_is_a_file_of_sections():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNIT, "utf-8")
    assert parser.sections() == ["Unit", "Service", "Install"]
