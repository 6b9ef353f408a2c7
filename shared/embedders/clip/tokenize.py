"""Tokenisation of texts as in open_clip and transformers."""

import html
import string

import ftfy
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from shared.embedders.clip.layouts import Clean, TextModel
from shared.errors import ModelError

_NO_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


def clean_text(text: str, clean: Clean) -> str:
    """Return *text* as the tokenizer expects it.

    The ``open_clip`` variants follow its ``tokenizer.get_clean_fn``; ``canonicalize`` originates in big_vision, where
    SigLIP was trained.
    """
    if clean in ("none", "lower"):
        return text.lower() if clean == "lower" else text
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    if clean == "open_clip_canonicalize":
        text = text.translate(_NO_PUNCTUATION)
    text = " ".join(text.split())
    return text if clean == "open_clip_whitespace" else text.lower()


class TextTokenizer:
    """The tokenizer of one model. Texts that are too long are cut and keep their end token."""

    def __init__(self, model: TextModel, *, pad: bool) -> None:
        """Load the tokenizer; with *pad* all texts are padded to the context length. Raises ModelError."""
        try:
            self._tokenizer = Tokenizer.from_file(str(model.tokenizer))
        except Exception as exc:  # tokenizers raises Exception itself
            raise ModelError(
                f"{model.tokenizer} is not a tokenizer file ({exc}): download it again", transient=False
            ) from exc
        self._clean = model.clean
        self._tokenizer.enable_truncation(model.context_length)
        self._tokenizer.no_padding()
        if pad:
            pad_id = self._tokenizer.token_to_id(model.pad_token)
            if pad_id is None:
                raise ModelError(
                    f"{model.tokenizer} lacks the padding token {model.pad_token!r}: download it and its"
                    " tokenizer_config.json again",
                    transient=False,
                )
            self._tokenizer.enable_padding(
                direction="left" if model.pad_left else "right",
                pad_id=pad_id,
                pad_token=model.pad_token,
                length=model.context_length,
            )

    def __call__(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the token ids of *text* and its attention mask: 1 for tokens, 0 for padding."""
        encoding = self._tokenizer.encode(clean_text(text, self._clean))
        return np.array(encoding.ids, np.int64), np.array(encoding.attention_mask, np.int64)
