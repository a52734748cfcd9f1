"""Client libraries of Node behind the gateway: each file of tests runs in a node of its own, before the scripted model.

Run by `python3 run.py test-clients`, which installs the libraries; what they are asked comes from here.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from scripted_model import TOOL, TOTAL_TOKENS, WEATHER, Ask, Said

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("*.test.mjs"))
WORDS = {**Ask.__members__, **Said.__members__, "TOOL": TOOL, "WEATHER": WEATHER, "TOTAL_TOKENS": TOTAL_TOKENS}


@pytest.mark.parametrize("file", FILES)
def test_every_scenario_passes(file: str, url: str, secret: str, models: dict[str, list[str]]) -> None:
    node = shutil.which("node")
    assert node, "node is not on the PATH"
    facts = json.dumps({"url": url, "key": secret, "models": models, "words": WORDS})
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", file],
        cwd=HERE,
        env={**os.environ, "GATEWAY_UNDER_TEST": facts},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
