"""Install a wheel of the product into an environment of its own."""

import subprocess
import sys
import sysconfig
from pathlib import Path

UV = (sys.executable, "-m", "uv")


def install_wheel(wheel: Path, environment: Path) -> Path:
    """Install *wheel* with the dependencies of these tests, but without this checkout; return the programs' folder."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    install = ["pip", "install", "--no-deps", "--offline", "--python", environment / "bin" / "python"]
    subprocess.run([*UV, *install, wheel], check=True, capture_output=True)
    # Python does not process the .pth files of a folder added this way: the editable installation stays invisible.
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"
