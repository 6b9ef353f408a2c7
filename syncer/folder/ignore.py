"""Selection of files in a folder: images that are not hidden, ignored, excluded or in a folder of the system's.

Patterns have the syntax of gitignore, on the command line and in files named ``.imagebrowserignore``, which apply to
their own folder and everything below it. Excluded files are not read, so they never count as missing.
"""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from shared.errors import SettingsError
from shared.stores.base import RESERVED_PREFIX
from syncer.file_names import is_system_folder, suffix

IGNORE_FILE = ".imagebrowserignore"


@dataclass(frozen=True)
class IgnoreRules:
    """Patterns of one ignore file; ``prefix`` is the path of its folder with a trailing ``/``, or "" at the top."""

    prefix: str
    spec: GitIgnoreSpec


class Selection:
    """The files of one folder to sync. Paths are relative to it, and those of folders end in ``/``."""

    def __init__(
        self,
        folder: Path,
        suffixes: Collection[str],
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        follow_links: bool = False,
    ) -> None:
        """*suffixes* are those of images, in lower case. With *include*, files must match one of its patterns.

        *exclude* wins over everything else. Links out of the folder are followed only with *follow_links*. Raises
        SettingsError for an invalid pattern.
        """
        self._folder = folder
        self._root = os.path.realpath(folder)
        self._follow_links = follow_links
        self._suffixes = frozenset(suffixes)
        self._include = _parse(include, "--include") if include else None
        self._exclude = _parse(exclude, "--exclude")
        self._rules = lru_cache(maxsize=256)(self._read_rules)

    def reload_ignore_files(self) -> None:
        """Drop the cache of ignore files, because they may have changed."""
        self._rules.cache_clear()

    def includes(self, path: str) -> bool:
        """Return whether the file *path* is selected, if it exists; False if an ignore file cannot be read."""
        try:
            folders = [path[: i + 1] for i, c in enumerate(path) if c == "/"]
            return not any(self.excludes(folder) for folder in folders) and self.includes_file(path)
        except (OSError, SettingsError):
            return False

    def includes_file(self, path: str) -> bool:
        """Return whether a file in an included folder is selected."""
        return self.is_image(path) and self.matches(path)

    def is_image(self, path: str) -> bool:
        """Return whether the file's name is one of an image."""
        return suffix(path) in self._suffixes

    def matches(self, path: str) -> bool:
        """Return whether the patterns select a file in an included folder, of any type."""
        return not self.excludes(path) and (self._include is None or self._include.match_file(path))

    def follows(self, path: str) -> bool:
        """Return whether *path* may be read: no link on its way leads out of the folder, or all links are followed."""
        return self._follow_links or Path(os.path.realpath(self._folder / path)).is_relative_to(self._root)

    def excludes(self, path: str) -> bool:
        """Return whether a file or folder in an included folder is excluded; *include* applies to files alone.

        Raises OSError or SettingsError if an ignore file of its folder or one above cannot be used.
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
        return name.startswith(".") or is_system_folder(path)

    def _read_rules(self, prefix: str) -> tuple[IgnoreRules, ...]:
        """Return the rules that apply to the folder *prefix*, the outermost first."""
        parent, _, _ = prefix.removesuffix("/").rpartition("/")
        above = self._rules(f"{parent}/" if parent else "") if prefix else ()
        file = self._folder / prefix / IGNORE_FILE
        try:
            lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return above
        return (*above, IgnoreRules(prefix, _parse(lines, str(file))))


def _parse(patterns: Sequence[str], origin: str) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(patterns)
    except ValueError as exc:
        raise SettingsError(f"{origin} has an invalid pattern: {exc}") from exc
