"""`syncer calibrate`: calibrate the weak-match threshold."""

import argparse
import contextlib

from shared.embedders.base import HasBackground
from shared.images.worker_pool import DecoderPool
from syncer import output
from syncer.calibration import calibrate as measure
from syncer.context import DONE, embedder_for, existing, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as parts, contextlib.AsyncExitStack() as stack:
        collection = await existing(parts)
        decoder = DecoderPool()
        stack.push_async_callback(decoder.close)
        embedder = embedder_for(parts, collection.model, collection.bucket, decoder)
        stack.push_async_callback(embedder.close)
        measured = await measure(parts.database, collection, embedder)
    if arguments.json:
        output.as_json({"bucket": collection.bucket, "model": embedder.name} | vars(measured))
    else:
        output.calibration(collection, measured, own_background=isinstance(embedder, HasBackground))
    return DONE
