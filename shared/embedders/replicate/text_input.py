"""Makes texts such that the models take them: one line, and no longer than CLIP's 77 tokens.

The models fail on longer texts, and CLIP's tokenizer needs a vocabulary that no small package brings for every Python
and platform. But its byte-level BPE bounds what it makes of a text: a word, a digit or a run of punctuation is at
least one token, and at most one for each byte of its UTF-8, in lower case and Unicode's NFC. And a model that fails
on a text that is too long says how many tokens it was.
"""

import re
import unicodedata
from itertools import accumulate

_LONGEST = 75  # tokens: 77 less the one that begins and the one that ends a text

# How CLIP's tokenizer splits a text before it looks at its vocabulary.
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\w\s]|_)+")

# "The size of tensor a (90) must match the size of tensor b (77) ..." and "Sequence length must be less than
# max_position_embeddings (got `sequence length`: 90 and max_position_embeddings: 77)", in older and newer versions.
_TOKENS = re.compile(r"tensor a \((\d+)\) must match the size of tensor b \(77\)|`sequence length`: (\d+)")


def one_line(text: str) -> str:
    """Return *text* as CLIP's tokenizer reads it, on one line that no model fails on or takes for an address."""
    text = text.encode(errors="replace").decode()  # a lone surrogate cannot be sent
    # split() knows every line separator at which the batch model would begin another text.
    text = unicodedata.normalize("NFC", " ".join(text.split()).lower())
    return re.sub(r"^(?:https?://)+", "", text).strip() or "."


def may_fit(text: str) -> str:
    """Return the longest beginning of the line *text* that is not sure to be too long."""
    pieces = list(_PIECE.finditer(text))
    return text if len(pieces) <= _LONGEST else text[: pieces[_LONGEST].start()].rstrip()


def surely_fits(text: str) -> bool:
    """Tell whether the line *text* is sure not to be too long."""
    return _size(text) <= _LONGEST


def is_too_long(error: str) -> bool:
    """Tell whether a model that failed with *error* did so for the length of the text."""
    return _TOKENS.search(error) is not None


def shorter(text: str, error: str) -> str:
    """Return the beginning of the line *text* to try after a model failed on it with *error*; not if it surely fits.

    That is as much as is likely to fit where the error says how many tokens the text was, and else what surely fits.
    """
    found = _TOKENS.search(error)
    tokens = int(found[1] or found[2]) - 2 if found else 0
    size = _LONGEST
    if tokens > _LONGEST:
        # A little less, since there may be more tokens to the byte at the beginning than on the average.
        size = max(size, int(0.95 * _size(text) * _LONGEST / tokens))
    return _cut(text, size)


def _size(text: str) -> int:
    """Return how many bytes the line has beside its spaces: no fewer than tokens."""
    return len(text.replace(" ", "").encode())


def _cut(text: str, size: int) -> str:
    """Return the longest beginning of that size, without the rest of a word that is cut where that is little."""
    sizes = accumulate(_size(character) for character in text)
    head = text[: sum(1 for total in sizes if total <= size)]
    whole_words = head.rpartition(" ")[0]
    return whole_words if len(whole_words) > 0.8 * len(head) else head
