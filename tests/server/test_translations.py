"""Texts of the pages: all in the catalogue, in all languages."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import Environment, nodes
from markupsafe import Markup

from server.translations import CATALOGUES, preferred
from shared.errors import Reason

SERVER = Path(__file__).parents[2] / "server"
# The page of the API is in English, like the document that it shows.
UNTRANSLATED = {"api_docs.html", "api_docs.js"}
TEMPLATES = [path for path in sorted(SERVER.glob("templates/*.html")) if path.name not in UNTRANSLATED]
SCRIPTS = [path for path in sorted(SERVER.glob("static/js/*.js")) if path.name not in UNTRANSLATED]
SOURCES = [*TEMPLATES, *SCRIPTS, *sorted(SERVER.rglob("*.py"))]
READ_ALOUD = {"aria-label", "aria-description", "title", "alt", "placeholder", "label", "data-error"}
JINJA = re.compile(r"{#.*?#}|{%.*?%}|{{.*?}}", re.DOTALL)
# A call of text() or parts() with a key, or with the beginning of one and an expression.
KEY = re.compile(r"""["'`]([a-z_]+\.(?!html)[a-z_]+)["'`]|["'`]([a-z_]+\.)(?:["'] ~|\$\{)""")
LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')
COMMENT = re.compile(r"/\*.*?\*/|(?<!:)//[^\n]*", re.DOTALL)
# A capitalised word, or two words in a row.
PROSE = re.compile(r"(?<![\w.#-])[A-Z][a-z]+|(?<![\w-])[A-Za-z’]{2,} [a-z’]{2,}(?![\w-])")
# Names of the browser's interfaces that look like words.
NAMES = re.compile(
    r"Abort(ed|Error)|Alt|Arrow\w*|Authorization|Backspace|Bearer|Control|Delete|End|Enter|Escape|Files|Home|Meta|Page\w+"
    r"|Shift|Space|Tab|US|Z|in use strict"
)


def without(pattern: re.Pattern[str], source: str) -> str:
    """Return *source* with the matches blanked out, on the same lines."""
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)


class VisibleTexts(HTMLParser):
    """Collects the texts of a page that contain letters, with their lines."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"code", "kbd", "script", "style"}:
            self._silent.append(tag)
        for name, value in attrs:
            if name in READ_ALOUD:
                self._add(value or "")

    def handle_endtag(self, tag: str) -> None:
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._add(data)

    def _add(self, text: str) -> None:
        if re.search(r"[^\W\d_]{2}", text):
            self.found.append((self.getpos()[0], text.strip()))


def texts_of_template(path: Path) -> Iterator[tuple[int, str]]:
    source = path.read_text("utf-8")
    parser = VisibleTexts()
    parser.feed(without(JINJA, source))
    yield from parser.found
    for constant in Environment().parse(source).find_all(nodes.Const):
        is_command = str(constant.value).startswith("syncer ")
        if isinstance(constant.value, str) and not is_command and PROSE.search(constant.value):
            yield constant.lineno, constant.value


def texts_of_script(path: Path) -> Iterator[tuple[int, str]]:
    source = without(COMMENT, path.read_text("utf-8"))
    for literal in LITERAL.finditer(source):
        text = re.sub(r"\$\{.*?\}+", " ", literal[0][1:-1])
        is_markup = re.match(r"[.#\[:]|\w+[.\[]|input, |button, |import", text)
        if not is_markup and PROSE.search(NAMES.sub("", text)):
            yield source.count("\n", 0, literal.start()) + 1, text


@pytest.mark.parametrize("path", [*TEMPLATES, *SCRIPTS], ids=lambda path: path.name)
def test_no_template_and_no_script_has_a_text_of_its_own(path: Path) -> None:
    texts = texts_of_template(path) if path.suffix == ".html" else texts_of_script(path)
    found = [f"{path.relative_to(SERVER.parent)}:{line}: {text!r}" for line, text in texts]
    assert not found, "move these texts to server/texts/*.toml:\n" + "\n".join(found)


def uses() -> dict[str, str]:
    """The keys that the sources use, and beginnings of keys, each with a place."""
    sections = {key.partition(".")[0] for key in CATALOGUES["en"].texts}
    found = {}
    for path in SOURCES:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            for key, beginning in KEY.findall(line):
                if (key or beginning).partition(".")[0] in sections:
                    found[key or beginning] = f"{path.relative_to(SERVER.parent)}:{number}"
    return found


def test_every_text_that_is_used_is_in_the_catalogue() -> None:
    keys = CATALOGUES["en"].texts
    missing = [
        f"{place}: {used}"
        for used, place in uses().items()
        if not (used in keys or used.endswith(".") and any(key.startswith(used) for key in keys))
    ]
    assert not missing, "add these keys to server/texts/*.toml:\n" + "\n".join(missing)


def test_every_text_of_the_catalogue_is_used() -> None:
    used = uses()
    beginnings = tuple(use for use in used if use.endswith("."))
    unused = [key for key in CATALOGUES["en"].texts if key not in used and not key.startswith(beginnings)]
    assert not unused, "remove these keys from server/texts/*.toml:\n" + "\n".join(unused)


@pytest.mark.parametrize("language", sorted(CATALOGUES.keys() - {"en"}))
def test_a_translation_has_the_keys_and_placeholders_of_english(language: str) -> None:
    english, translated = CATALOGUES["en"].texts, CATALOGUES[language].texts
    assert list(translated) == list(english)
    for key, text in english.items():
        other = translated[key]
        assert isinstance(text, dict) == isinstance(other, dict), key
        forms = zip(text.values(), other.values(), strict=True) if isinstance(other, dict) else [(text, other)]
        for form, translation in forms:
            placeholders = [sorted(re.findall(r"{(\w+)}", str(each))) for each in (form, translation)]
            assert placeholders[0] == placeholders[1], key


@pytest.mark.parametrize("language", sorted(CATALOGUES))
def test_texts_contain_no_markup_and_all_plural_forms(language: str) -> None:
    for key, text in CATALOGUES[language].texts.items():
        forms = list(text.values()) if isinstance(text, dict) else [text]
        assert not isinstance(text, dict) or list(text) == ["one", "other"], key
        assert not re.search('[<>&"]', "".join(forms)), key


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("en-GB, de;q=0.9", "en"),
        ("fr, de;q=0.3, en;q=0.2", "de"),
        ("en;q=0.4, DE", "de"),
        ("fr-CA, fr", "en"),
        ("de;q=0", "en"),
        ("de;q=high, *", "en"),
        ("", "en"),
    ],
)
def test_the_most_preferred_language_that_there_is_is_chosen(header: str, language: str) -> None:
    assert preferred(header).language == language


def test_every_reason_of_a_failure_has_words() -> None:
    assert {f"reason.{reason}" for reason in Reason} <= CATALOGUES["en"].texts.keys()


def test_a_text_is_filled_with_escaped_values_and_markup() -> None:
    text = preferred("en").text
    assert text("error.unknown_collection", collection="<b>") == "Collection &lt;b&gt; not found"
    assert text("error.unknown_collection", collection=Markup("<q>b</q>")) == "Collection <q>b</q> not found"


def test_a_count_chooses_the_plural_form_and_is_grouped_as_the_language_does() -> None:
    assert [preferred("en").text("count.images", count=count) for count in (0, 1, 1234567)] == [
        "0 images",
        "1 image",
        "1,234,567 images",
    ]
    assert [preferred("de").text("count.images", count=count) for count in (1, 1234)] == ["1 Bild", "1.234 Bilder"]
    assert preferred("de").number(1234.567, 2) == "1.234,57"
