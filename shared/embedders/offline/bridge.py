"""Text vectors of languages other than English, in the space of the English text network.

A text is taken for English if both networks give it similar vectors, and has that of the text network. Any other text
has the mapped vector of the multilingual encoder, unless that is as weak as for nonsense.
"""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.embedders.offline.towers import OfflineTextTower, read_class_vectors
from shared.onnx_network import open_network, run_network

# Files of the built model.
ENCODER = "multilingual_encoder.onnx"
PIECES = "multilingual_pieces.json"
BRIDGE = "bridge.npz"

# Chosen with one set of sentences and reported on another: docs/relevance.md.
_MIN_ENGLISH = 0.4  # cosine of the two vectors from which a text is English
_NEAREST = 50  # class vectors; their mean score says how much a text means
_MIN_MEANING = 0.115  # nonsense has less

_MAX_PIECES = 128
_BEGIN, _END, _UNKNOWN = 1, 2, 0


class MultilingualTextTower:
    """The text network, and the bridge for languages other than English."""

    def __init__(self, folder: Path) -> None:
        self._text = OfflineTextTower(folder)
        self._encoder = MultilingualEncoder(folder)
        self._classes = read_class_vectors(folder)
        with np.load(folder / BRIDGE) as bridge:
            self._centre, self._matrix, self._mean = bridge["centre"], bridge["matrix"], bridge["mean"]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the unit vectors [len(texts), 384]."""
        english = self._text.embed(texts)
        # How far a text lies from the mean of all sentences, in the space of the text network.
        offsets = (self._encoder.encode(texts) - self._centre) @ self._matrix
        mapped = offsets + self._mean
        mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
        meaning = np.partition(mapped @ self._classes.T, -_NEAREST, axis=1)[:, -_NEAREST:].mean(axis=1)
        is_foreign = (mapped * english).sum(axis=1) < _MIN_ENGLISH
        has_meaning = meaning * np.linalg.norm(offsets, axis=1) >= _MIN_MEANING
        vectors: NDArray[np.float32] = np.where((is_foreign & has_meaning)[:, np.newaxis], mapped, english)
        return vectors


class MultilingualEncoder:
    """The multilingual Universal Sentence Encoder."""

    def __init__(self, folder: Path) -> None:
        self._session = open_network(folder / ENCODER)
        scores: dict[str, float] = json.loads((folder / PIECES).read_text("utf-8"))
        self._ids = {piece: number for number, piece in enumerate(scores)}
        self._scores = list(scores.values())
        self._unknown_score = min(self._scores) - 10
        self._longest = max(map(len, scores))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the unit vectors [len(texts), 512]; texts are cut after 128 word pieces."""
        vectors = [run_network(self._session, ids=np.array(self.pieces(text))) for text in texts]
        return np.concatenate(vectors) if vectors else np.empty((0, 512), np.float32)

    def pieces(self, text: str) -> list[int]:
        """Return the most probable word pieces of a text (Kudo 2018, arXiv:1804.10959: unigram model, Viterbi)."""
        words = "".join(f"▁{word}" for word in unicodedata.normalize("NFKC", text).split())
        # The best score of the text up to each position, and the last piece there.
        best = [0.0] + [-np.inf] * len(words)
        last = [(0, _UNKNOWN)] * (len(words) + 1)
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                piece = self._ids.get(words[start:end])
                if piece is None and end > start + 1:
                    continue
                score = best[start] + (self._unknown_score if piece is None else self._scores[piece])
                if score > best[end]:
                    best[end], last[end] = score, (start, _UNKNOWN if piece is None else piece)
        found, position = [], len(words)
        while position:
            position, piece = last[position]
            found.append(piece)
        return [_BEGIN, *found[: -_MAX_PIECES - 1 : -1], _END]
