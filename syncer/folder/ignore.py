"""Which files of a folder are taken: images that are not hidden, not ignored and not excluded.

Patterns are those of gitignore, in the command line and in files named ``.imagebrowserignore``, which speak of their
own folder and what lies below it. What is excluded is not looked at: that it is gone, nobody can know.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from shared.errors import SettingsError
from shared.stores.base import RESERVED_PREFIX

IGNORE_FILE = ".imagebrowserignore"


@dataclass(frozen=True)
class Rules:
    """The patterns of one ignore file; ``prefix`` is the path of its folder with a ``/`` behind, "" at the top."""

    prefix: str
    spec: GitIgnoreSpec


class Selection:
    """What is taken of one folder. Paths are relative to it, and those of folders end in ``/``."""

    def __init__(
        self, folder: Path, suffixes: Collection[str], *, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> None:
        """*suffixes* are those of images, in lower case. With *include*, only files are taken that match one of it.

        *exclude* wins over everything else. Raises SettingsError for a pattern that is none.
        """
        self._folder = folder
        self._suffixes = frozenset(suffixes)
        self._include = _parsed(include, "--include") if include else None
        self._exclude = _parsed(exclude, "--exclude")
        self._rules = lru_cache(maxsize=256)(self._read_rules)

    def forget_ignore_files(self) -> None:
        """Read them again: they may have changed."""
        self._rules.cache_clear()

    def takes(self, path: str) -> bool:
        """Whether the file *path* would be taken if it were there; no when an ignore file cannot be read."""
        try:
            folders = [path[: i + 1] for i, c in enumerate(path) if c == "/"]
            return not any(self.leaves_out(folder) for folder in folders) and self.takes_file(path)
        except (OSError, SettingsError):
            return False

    def takes_file(self, path: str) -> bool:
        """Whether a file is taken that lies in a folder that is not left out."""
        if os.path.splitext(path)[1].lower() not in self._suffixes or self.leaves_out(path):
            return False
        return self._include is None or self._include.match_file(path)

    def leaves_out(self, path: str) -> bool:
        """Whether a file or folder is left out that lies in a folder that is not; *include* speaks of files alone.

        Raises OSError or SettingsError when the ignore file of a folder above cannot be used.
        """
        if path == RESERVED_PREFIX:
            return True
        excluded = self._exclude.check_file(path).include if self._exclude else None
        if excluded is not None:
            return excluded
        *_, name = path.removesuffix("/").rpartition("/")
        for rules in reversed(self._rules(path.removesuffix("/").removesuffix(name))):
            ignored = rules.spec.check_file(path.removeprefix(rules.prefix)).include
            if ignored is not None:
                return ignored
        return name.startswith(".")

    def _read_rules(self, prefix: str) -> tuple[Rules, ...]:
        """Return what the ignore files say about the folder *prefix*, the outermost first."""
        parent, _, _ = prefix.removesuffix("/").rpartition("/")
        above = self._rules(f"{parent}/" if parent else "") if prefix else ()
        file = self._folder / prefix / IGNORE_FILE
        try:
            lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return above
        return (*above, Rules(prefix, _parsed(lines, str(file))))


def _parsed(patterns: Sequence[str], origin: str) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as exc:
        raise SettingsError(f"{origin} holds a pattern that cannot be used: {exc}") from exc
