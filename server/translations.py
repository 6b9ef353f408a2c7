"""Texts of the pages in the languages of ``texts/``: one catalogue for templates and scripts."""

import re
import tomllib
from functools import cache
from pathlib import Path

from markupsafe import Markup

FOLDER = Path(__file__).parent / "texts"
DEFAULT_LANGUAGE = "en"
_SCRIPTS = FOLDER.parent / "static" / "js"
# A key in a script, or the beginning of one: "count.images", `reason.${…}`.
_KEY = re.compile(r'["`]([a-z_]+\.[a-z_]*)')

# A text, or its forms by the plural category of its {count}.
Text = str | dict[str, str]


class Catalogue:
    """The texts of one language by their keys, ``section.key``."""

    def __init__(self, path: Path) -> None:
        sections = tomllib.loads(path.read_text("utf-8"))
        self.language = path.stem
        self.texts: dict[str, Text] = {
            f"{section}.{key}": text for section, texts in sections.items() for key, text in texts.items()
        }
        #: The texts that scripts use.
        self.script_texts = {key: text for key, text in self.texts.items() if key.startswith(_script_keys())}

    def text(self, key: str, **values: object) -> Markup:
        """Return the text of *key* with *values* for its placeholders, escaped unless they are markup.

        Whole numbers are grouped as the language does. A text with plural forms is chosen by the value ``count``.
        """
        found = self.texts.get(key, key)
        if isinstance(found, dict):
            # The rule of all our languages; scripts use Intl.PluralRules.
            found = found["one" if values["count"] == 1 else "other"]
        shown = {name: self.number(value) if isinstance(value, int) else value for name, value in values.items()}
        return Markup(found).format(**shown)  # nosec B704: the catalogue is ours, and format() escapes the values

    def number(self, value: float, digits: int = 0) -> str:
        """Return a number as the language writes it, with *digits* decimals."""
        separators = str(self.texts["number.thousands"]) + str(self.texts["number.decimal"])
        return f"{value:,.{digits}f}".translate(str.maketrans(",.", separators))


@cache
def _script_keys() -> tuple[str, ...]:
    return tuple({key for path in _SCRIPTS.glob("*.js") for key in _KEY.findall(path.read_text("utf-8"))})


CATALOGUES = {path.stem: Catalogue(path) for path in sorted(FOLDER.glob("*.toml"))}


def preferred(accept_language: str) -> Catalogue:
    """Return the catalogue of the most preferred language of an ``Accept-Language`` header that there is."""
    accepted = []
    for item in accept_language.split(","):
        tag, _, parameter = item.partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0
        accepted.append((quality, tag.strip().lower().partition("-")[0]))
    # The sort is stable: of equal qualities the first counts.
    ranked = sorted(accepted, key=lambda each: each[0], reverse=True)
    languages = [language for quality, language in ranked if quality > 0 and language in CATALOGUES]
    return CATALOGUES[languages[0] if languages else DEFAULT_LANGUAGE]
