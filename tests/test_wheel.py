"""The wheel: what `pip install .` and `uv tool install .` install."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer, serving
from tests.helpers.wheels import UV, install_wheel

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the programs of an environment that holds the wheel and its dependencies, but not this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ["build", "--wheel", "--no-build-isolation", "--offline", "--python", sys.executable]
    subprocess.run([*UV, *build, "--out-dir", folder, ROOT], check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return install_wheel(wheel, folder / "environment")


def test_photos_are_synced_and_served_by_the_installed_programs(
    installed: Path, environment: dict[str, str], home: Path, tmp_path: Path
) -> None:
    del environment["DATABASE_URL"]  # an embedded database without tables
    make_pictures(tmp_path / "photos", 2)
    syncer = Syncer(environment, command=[str(installed / "syncer")])
    with serving(environment, tmp_path / "server.log", command=[str(installed / "server")]) as server:
        done = syncer("sync", tmp_path / "photos", "--bucket", "b", "--json")
        assert done.status == 0, done.stderr
        assert done.json["embedded"] == 2
        assert len(server.keys("/api/search", bucket="b", q="noise")) == 2
        page = server.http.get("/")
        assert page.status_code == 200
        assert "picture-0001.jpg" in page.text
