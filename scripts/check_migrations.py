"""Compare the migrations with the hashes that were recorded when they landed: a landed migration never changes."""

import hashlib
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "migrations"


def find_problems(folder: Path) -> list[str]:
    """Return a sentence for each migration in *folder* that differs from ``hashes.txt`` or is not listed there."""
    lines = (folder / "hashes.txt").read_text(encoding="utf-8").splitlines()
    recorded = {name: digest for digest, name in (line.split() for line in lines)}
    present = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.sql"))
    }
    changed = [name for name, digest in recorded.items() if present.get(name) != digest]
    return [
        *(
            f"migrations/{name} has changed since it landed: restore it, and put the change into a new file"
            for name in changed
        ),
        *(
            f"migrations/{name} is not listed: append `{digest}  {name}` to migrations/hashes.txt"
            for name, digest in present.items()
            if name not in recorded
        ),
    ]


if __name__ == "__main__":
    sys.exit("\n".join(find_problems(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)) or None)
