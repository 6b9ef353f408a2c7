"""No library of ours reports to its maker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["shared.embedders.clip.towers", "shared.onnx_network"])
def test_loading_a_local_model_writes_nothing_to_the_home_folder(module: str, tmp_path: Path) -> None:
    """ONNX Runtime keeps the events that it reports in the home folder."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
