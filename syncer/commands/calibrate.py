"""`syncer calibrate`: calibrate the weak-match threshold."""

import argparse

from shared.embedders.base import HasReferenceVectors
from syncer import calibration, output
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, require_collection

HELP = "calibrate the weak-match threshold of a collection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        embedder = context.open_embedder(collection)
        measured = await calibration.calibrate(context.database, collection, embedder)
    lines = [
        f"{collection.bucket}: meaningless texts reach a cosine of {measured.words_level:.3f}, random pairs of"
        f" images {measured.image_level:.3f}; within a minute servers mark matches below as weak"
    ]
    if isinstance(embedder, HasReferenceVectors):
        lines.append(f"{embedder.name} has its own background vectors, which servers use instead")
    result = {"bucket": collection.bucket, "model": embedder.name} | vars(measured)
    output.print_result(result, *lines, as_json=arguments.json)
    return DONE
