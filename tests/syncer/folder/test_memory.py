"""Memory of a sync of very many files."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.helpers.many_files import link_many, record_files, run_and_measure
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer

COUNT = 50_000
LIMIT = 300 << 20  # bytes


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_a_sync_of_very_many_files_needs_little_memory(syncer: Syncer, database_url: str, tmp_path: Path) -> None:
    [picture] = make_pictures(tmp_path / "one", 1)
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(picture, folder)
    assert syncer("upload", folder, "--bucket", "photos").status == 0
    (folder / picture.name).unlink()

    link_many(folder, picture, COUNT)
    record_files(database_url, folder, missing=COUNT)
    output = tmp_path / "output"
    status, peak = run_and_measure(syncer, output, "upload", folder, "--bucket", "photos", "--json")
    assert (status, json.loads(output.read_text())["unchanged"]) == (0, COUNT)
    assert peak < LIMIT
    # And if all files are new.
    status, peak = run_and_measure(syncer, output, "upload", folder, "--bucket", "others", "--dry-run")
    assert status == 0
    assert peak < LIMIT
