"""The files for other programs have the form that those programs' own schemas and linters ask for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Kinds that no cluster has by itself; what they refer to is tested beside the other manifests.
WITHOUT_SCHEMA = {"kustomization.yaml", "servicemonitor.yaml"}
MANIFESTS = sorted(path.name for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml"))


def judged(program: str, *arguments: str | Path) -> None:
    """Run a program of this environment; what it prints is why the test fails."""
    path = Path(sys.executable).parent / program
    done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_one_by_the_specification():
    judged("check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml")


def test_a_misspelt_word_of_the_compose_file_is_noticed(tmp_path):
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text((ROOT / "docker-compose.yml").read_text("utf-8").replace("interval:", "intervall:"), "utf-8")
    with pytest.raises(AssertionError, match="intervall"):
        judged("check-jsonschema", "--builtin-schema", "vendor.compose-spec", wrong)


def test_the_dockerfile_has_none_of_the_known_mistakes():
    judged("hadolint", ROOT / "deploy" / "Dockerfile")


def test_the_linter_of_dockerfiles_finds_mistakes(tmp_path):
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian\nRUN apt-get install curl\n", "utf-8")
    with pytest.raises(AssertionError, match="DL30"):
        judged("hadolint", wrong)


@pytest.mark.parametrize("name", [name for name in MANIFESTS if name not in WITHOUT_SCHEMA])
def test_a_manifest_is_one_by_kubernetes_own_schema(name):
    judged("kubernetes-validate", "--strict", ROOT / "deploy" / "kubernetes" / name)


def test_a_misspelt_word_of_a_manifest_is_noticed(tmp_path):
    wrong = tmp_path / "statefulset.yaml"
    text = (ROOT / "deploy" / "kubernetes" / "statefulset.yaml").read_text("utf-8")
    wrong.write_text(text.replace("readinessProbe", "readynessProbe"), "utf-8")
    with pytest.raises(AssertionError, match="readynessProbe"):
        judged("kubernetes-validate", "--strict", wrong)
