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
        embedder = context.open_collection_embedder(collection.bucket, collection.model, context.open_decoder())
        measured = await calibration.calibrate(context.database, collection, embedder)
    if arguments.json:
        output.print_json({"bucket": collection.bucket, "model": embedder.name} | vars(measured))
    else:
        print(
            f"{collection.bucket}: meaningless texts reach a cosine of {measured.words_level:.3f}, random pairs of"
            f" images {measured.image_level:.3f}; servers mark matches below as weak, within a minute"
        )
        if isinstance(embedder, HasReferenceVectors):
            print(f"{embedder.name} brings its own background vectors, which servers use instead")
    return DONE
