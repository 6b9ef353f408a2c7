"""Scripts and style sheets with the files that they import, joined when the server starts: one request for each."""

import re
from pathlib import Path

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
# Comments that have lines of their own; they are a fifth of what browsers would fetch.
_COMMENT = re.compile(r"^[ \t]*(?:/\*.*?\*/|//[^\n]*)[ \t]*\n", re.MULTILINE | re.DOTALL)
_SHEET = re.compile(r'^@import "(\w+\.css)";\n', re.MULTILINE)


def join_sheets(path: Path) -> str:
    """Return the style sheet *path* with the contents of the sheets that it imports, which lie beside it."""
    return _COMMENT.sub("", _SHEET.sub(lambda match: (path.parent / match[1]).read_text(), path.read_text()))


def join_modules(path: Path) -> str:
    """Return the ES module *path* with all that it imports as one script, each module in the scope of a function.

    Modules lie in one folder, import names of each other without cycles, and export declarations.
    """
    modules: dict[str, str] = {}
    _add_module(path, modules)
    return "".join(modules.values())


def _add_module(path: Path, modules: dict[str, str]) -> None:
    """Add a module to *modules* after those that it imports."""
    source = _COMMENT.sub("", path.read_text())
    for _, name in _IMPORT.findall(source):
        if name not in modules:
            _add_module(path.with_stem(name), modules)
    body = _IMPORT.sub(lambda match: f"const {{{match[1].replace(' as ', ': ')}}} = ${match[2]};\n", source)
    exported = ", ".join(name for _, name in _EXPORT.findall(source))
    body = _EXPORT.sub(r"\1 \2", body)
    modules[path.stem] = f"const ${path.stem} = (() => {{\n{body}return {{ {exported} }};\n}})();\n"
