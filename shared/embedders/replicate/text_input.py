"""Prepare texts for the models: one line of at most CLIP's 77 tokens.

The models fail on longer texts, and no small package brings CLIP's vocabulary for every Python and platform. But its
byte-level BPE bounds the number of tokens: a word, a digit or a run of punctuation is at least one token, and at most
one for each byte of its UTF-8, in lower case and Unicode's NFC. A model that fails on a text that is too long also
says how many tokens it had.
"""

import re
import unicodedata
from itertools import accumulate

_MAX_TOKENS = 75  # 77 less the start and the end token

# CLIP's tokenizer splits a text into these before it applies its vocabulary.
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")

# "The size of tensor a (90) must match the size of tensor b (77) ..." and "Sequence length must be less than
# max_position_embeddings (got `sequence length`: 90 and max_position_embeddings: 77)", in older and newer versions.
_TOKENS = re.compile(r"tensor a \((\d+)\) must match the size of tensor b \(77\)|`sequence length`: (\d+)")


def normalise(text: str) -> str:
    """Return *text* as CLIP's tokenizer reads it, on one line that is not empty and does not look like an address."""
    text = text.encode(errors="replace").decode()  # lone surrogates cannot be sent
    # split() splits at every line separator; the batch model would take each line for another text.
    text = unicodedata.normalize("NFC", " ".join(text.split()).lower())
    return re.sub(r"^(?:https?://)+", "", text).strip() or "."


def truncate(text: str) -> str:
    """Return the longest prefix of the line *text* that is not certain to be too long."""
    pieces = list(_PIECE.finditer(text))
    return text if len(pieces) <= _MAX_TOKENS else text[: pieces[_MAX_TOKENS].start()].rstrip()


def surely_fits(text: str) -> bool:
    """Return whether the line *text* is certain to fit."""
    return _size(text) <= _MAX_TOKENS


def is_too_long(error: str) -> bool:
    """Return whether *error* of a model is about the length of a text."""
    return _TOKENS.search(error) is not None


def shorten(text: str, error: str) -> str:
    """Return the prefix of the line *text* to try next, after a model failed on it with *error*.

    It probably fits if the error states the number of tokens, and certainly otherwise.
    """
    found = _TOKENS.search(error)
    tokens = int(found[1] or found[2]) - 2 if found else 0
    size = _MAX_TOKENS
    if tokens > _MAX_TOKENS:
        # Slightly less, since the beginning may have more tokens per byte than the average.
        size = max(size, int(0.95 * _size(text) * _MAX_TOKENS / tokens))
    return _cut(text, size)


def _size(text: str) -> int:
    """Return the number of bytes without spaces, an upper bound of the number of tokens."""
    return len(text.replace(" ", "").encode())


def _cut(text: str, size: int) -> str:
    """Return the longest prefix of that size, cut at a word boundary if that costs less than a fifth of it."""
    sizes = accumulate(_size(character) for character in text)
    head = text[: sum(1 for total in sizes if total <= size)]
    whole_words = head.rpartition(" ")[0]
    return whole_words if len(whole_words) > 0.8 * len(head) else head
