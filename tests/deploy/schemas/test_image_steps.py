"""The steps of deploy/Dockerfile, done in a folder instead of an image: what they install works and is all told."""

import importlib.metadata
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
PATIENCE = 110
MOST_BYTES = 120_000_000
INSTALLED = "/opt/aion-proxy"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage leaves for the second."""
    source, installed = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("image") / "installed"
    stage = DOCKERFILE.split("\nFROM ")[1]
    environ = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PIP_USER"}}
    for word, rest in re.findall(r"^(COPY|RUN) (.*)$", stage, re.MULTILINE):
        if word == "COPY":
            *names, target = rest.split()
            for name in names:
                copy(ROOT / name, source / target / name if target == "./" else source / target)
            continue
        command = re.sub(r"(?<![\w/])python -m", f"{run.find_pip()} -m", rest.replace(INSTALLED, str(installed)))
        done = subprocess.run(
            ["sh", "-euc", command],
            cwd=source,
            env=environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return installed


def copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(path, target)


def test_the_gateway_of_the_image_takes_the_image_s_configuration(image, tmp_path):
    environ = dict(re.findall(r"\b(AION_\w+)=(\S+)", DOCKERFILE))
    environ |= {"AION_PROXY_CONFIG": str(ROOT / "config" / "gateway.yaml"), "PATH": f"{image / 'bin'}:/usr/bin:/bin"}
    done = subprocess.run(
        ["aion-proxy", "check"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
        executable=image / "bin" / "aion-proxy",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_holds_no_tool_that_builds_or_installs(image):
    programs = {path.name for path in (image / "bin").iterdir()}
    assert not [name for name in programs if name.startswith(("pip", "uv", "flit", "pytest", "ruff", "gcc"))]


def test_it_is_small_because_the_library_for_parquet_is_left_out(image):
    size = sum(path.lstat().st_size for path in image.rglob("*") if not path.is_dir())
    assert size < MOST_BYTES, f"{size:,} bytes"
    assert not list(image.glob("lib/python*/site-packages/pyarrow*"))


def test_the_library_for_parquet_is_installed_where_the_build_asks_for_it():
    (requirements,) = re.findall(r"--requirement requirements-otel\.txt (.*)$", DOCKERFILE, re.MULTILINE)
    for asked, words in (({"PARQUET": "yes"}, "--requirement requirements-parquet.txt"), ({}, "")):
        done = subprocess.run(
            ["sh", "-euc", f"echo {requirements}"], env=asked, capture_output=True, text=True, timeout=10, check=True
        )
        assert done.stdout.strip() == words
    assert "\nARG PARQUET=\n" in DOCKERFILE.split("\nFROM ")[1]


@pytest.fixture(scope="module")
def bill_file(image: Path) -> Path:
    """Where the image's label says that its bill of materials is."""
    label = re.search(r'aion-proxy\.sbom="([^"]+)"', DOCKERFILE)
    assert label is not None
    return Path(label[1].replace(INSTALLED, str(image)))


def test_its_bill_of_materials_names_what_is_installed(image, bill_file):
    told = components(bill_file)
    (packages,) = image.glob("lib/python*/site-packages")
    installed = {
        one.metadata["Name"].lower(): one.version for one in importlib.metadata.distributions(path=[str(packages)])
    }
    assert told == installed
    assert "aion-proxy" in told


def components(file: Path) -> dict[str, str]:
    return {one["name"].lower(): one["version"] for one in json.loads(file.read_text("utf-8"))["components"]}


def judge(file: Path) -> subprocess.CompletedProcess[str]:
    """Judge a bill by CycloneDX's own schema of its version."""
    version = json.loads(file.read_text("utf-8"))["specVersion"]
    schemas = importlib.resources.files("cyclonedx") / "schema" / "_res"
    command = ["check-jsonschema", "--schemafile", str(schemas / f"bom-{version}.SNAPSHOT.schema.json"), str(file)]
    program = Path(sys.executable).parent / command[0]
    return subprocess.run(command, executable=program, capture_output=True, text=True, timeout=60, check=False)


def test_its_bill_of_materials_is_one_by_the_schema(bill_file):
    done = judge(bill_file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("wrong", ['"bom-ref": 7', '"licences": []', '"licenses": [{"license": {"id": "No-Such"}}]'])
def test_a_wrong_bill_is_noticed(bill_file, tmp_path, wrong):
    told = json.loads(bill_file.read_text("utf-8"))
    bill = tmp_path / "bill.json"
    wrongs = [json.loads(f'{{"type": "library", "name": "x", {wrong}}}')]
    bill.write_text(json.dumps(told | {"components": wrongs, "dependencies": []}), "utf-8")
    assert judge(bill).returncode == 1


def test_its_bill_says_who_needs_whom_and_leaves_nobody_out(bill_file):
    bill = json.loads(bill_file.read_text("utf-8"))
    needs = {one["ref"]: set(one["dependsOn"]) for one in bill["dependencies"]}
    refs = [one["bom-ref"] for one in bill["components"]]
    assert len(set(refs)) == len(refs)
    assert set(needs) == {bill["metadata"]["component"]["bom-ref"], *refs}
    reached, left = set(), ["image"]
    while left:
        reached.add(one := left.pop())
        left += needs[one] - reached
    assert reached == set(needs), "every package is there because another one needs it"
    assert not [one["name"] for one in bill["components"] if not one.get("licenses")]


def test_the_audit_s_bill_is_the_image_s(bill_file, tmp_path):
    written = tmp_path / "bill.json"
    command = [sys.executable, str(ROOT / "deploy" / "audit.py"), "--sbom", str(written)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert judge(written).returncode == 0
    assert components(written) == components(bill_file)
