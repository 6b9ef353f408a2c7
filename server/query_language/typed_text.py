"""Typed text, split into folded words with their positions."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

COMMA = ","
QUOTES = '"“”„«»'

_PIECE = re.compile(
    r"""(?P<sign>(?<!\S)[-−](?=[\w"“„«]))?
    (?: ["“„«](?P<quoted>[^"“”„«»]+)["”“»]
      | (?P<article>(?<!\w)(?:[ld]|jusqu)['’])(?=\w)
      | (?P<word>[^\s,;"“”„«»]+)
      | (?P<comma>[,;]) )""",
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True)
class Token:
    """A word, a quoted phrase or a comma of a text: ``text[start:end]``. ``sign`` says that a minus precedes it."""

    key: str
    start: int
    end: int
    quoted: bool = False
    sign: bool = False


@dataclass(frozen=True)
class TypedText:
    """A text and its tokens."""

    written: str
    tokens: Sequence[Token] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", list(_tokens(self.written)))

    @cached_property
    def _keys(self) -> tuple[str, list[int], list[int]]:
        """The tokens' keys, each followed by a space and some preceded by a sign, and where each begins and ends."""
        keys, starts, ends = "", [], []
        for token in self.tokens:
            keys += "-" if token.sign else ""
            starts.append(len(keys))
            keys += f"{token.key} "
            ends.append(len(keys))
        return keys, starts, ends

    def match(self, pattern: re.Pattern[str], index: int) -> tuple[re.Match[str], int] | None:
        """Match *pattern*, which ends after a space, from token *index* on; return the match and the next index.

        No match continues behind a sign.
        """
        keys, starts, ends = self._keys
        if index == len(starts) or not (found := pattern.match(keys, starts[index])):
            return None
        if found.end() == starts[index]:
            return found, index
        return (found, ends.index(found.end()) + 1) if found.end() in ends else None

    def key(self, index: int) -> str:
        """Return the key of a token, a comma before the first and behind the last."""
        return self.tokens[index].key if 0 <= index < len(self.tokens) else COMMA

    def between(self, start: int, end: int) -> str:
        """Return the text of the tokens from *start* to before *end*."""
        return self.written[self.tokens[start].start : self.tokens[end - 1].end] if start < end else ""


def fold(text: str) -> str:
    """Return *text* in lower case, without accents and apostrophes."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return re.sub(r"['’]", "", "".join(each for each in decomposed if not unicodedata.combining(each)))


def _tokens(text: str) -> Iterator[Token]:
    for found in _PIECE.finditer(text):
        sign = bool(found["sign"])
        start = found.end("sign") if sign else found.start()
        if found["quoted"]:
            # With quotes, so that no pattern matches.
            yield Token(f'"{fold(found["quoted"])}"', found.start(), found.end(), quoted=True, sign=sign)
        elif found["comma"]:
            yield Token(COMMA, found.start(), found.end())
        elif key := fold(text[start : found.end()]).strip(".:!?()[]"):
            yield Token(key, found.start(), found.end(), sign=sign)
