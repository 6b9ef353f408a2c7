"""The networks of the built model. Calls block and are thread-safe."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import BertWordPieceTokenizer

from shared.onnx_network import open_network, run_network

DIMENSIONS = 384

# Files of the built model.
TEXT_TOWER = "text_encoder.onnx"
IMAGE_TOWER = "image_encoder.onnx"
CLASS_VECTORS = "class_vectors.npy"

_VOCABULARY = Path(__file__).with_name("vocab.txt")
_MAX_TOKENS = 128  # as in the training of the text network
_BATCH = 32  # texts per call


class OfflineTextTower:
    """Sentence network (paraphrase-MiniLM-L3-v2) with mean pooling of the last hidden states."""

    def __init__(self, folder: Path) -> None:
        self._session = open_network(folder / TEXT_TOWER)
        self._tokenizer = BertWordPieceTokenizer(str(_VOCABULARY), lowercase=True)
        self._tokenizer.enable_truncation(_MAX_TOKENS)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the unit vectors [len(texts), 384]; texts are cut after 126 word pieces."""
        tokens = [self._tokenizer.encode(text).ids for text in texts]
        vectors = np.empty((len(texts), DIMENSIONS), np.float32)
        lengths = np.array([len(ids) for ids in tokens])
        # Texts of equal length share a call: three times as fast as one by one, without padding.
        for length in np.unique(lengths):
            same = np.flatnonzero(lengths == length)
            for batch in np.split(same, range(_BATCH, len(same), _BATCH)):
                ids = np.array([tokens[index] for index in batch])
                vectors[batch] = run_network(self._session, input_ids=ids, attention_mask=np.ones_like(ids))
        return vectors


class OfflineImageTower:
    """EfficientNet-Lite2 followed by the vectors of its 1,000 classes."""

    def __init__(self, folder: Path) -> None:
        self._session = open_network(folder / IMAGE_TOWER)

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the unit vector [384] of RGB values [height, width, 3], both sides multiples of 32."""
        vector: NDArray[np.float32] = run_network(self._session, pixels=pixels[np.newaxis])[0]
        return vector


def read_class_vectors(folder: Path) -> NDArray[np.float32]:
    """Return the unit vectors [1000, 384] of the classes."""
    vectors: NDArray[np.float32] = np.load(folder / CLASS_VECTORS)
    return vectors
