"""The progress stream of a collection, over real HTTP."""

import threading
from pathlib import Path

import httpx2

from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Server, Syncer


def test_progress_is_sent_at_once_and_on_every_change(syncer: Syncer, server: Server, tmp_path: Path) -> None:
    make_pictures(tmp_path / "pictures", 3)
    assert syncer("upload", tmp_path / "pictures", "--bucket", "b").status == 0
    lines: list[str] = []
    started, finished = threading.Event(), threading.Event()

    def listen() -> None:
        with httpx2.stream("GET", f"{server.url}/api/stats/stream?bucket=b", timeout=60) as stream:
            for line in stream.iter_lines():
                lines.append(line)
                started.set()
                if '"embedded": 3' in line:
                    finished.set()
                    return

    threading.Thread(target=listen, daemon=True).start()
    assert started.wait(10)
    assert syncer("embed", "--bucket", "b").status == 0
    assert finished.wait(10)
    assert "event: stats" in lines
    assert '"pending": 3' in next(line for line in lines if line.startswith("data:"))
