"""`syncer verify`: compare the bucket with the collection, and restore lost objects."""

import argparse
from collections.abc import Iterator
from dataclasses import replace

from shared.models import Collection
from shared.printable import printable
from syncer import output
from syncer.bucket.verification import Verification, verify
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, SOME_FAILED, open_context, require_collection
from syncer.marker import write_marker
from syncer.repair import repair
from syncer.target import SyncTarget

HELP = "compare the bucket's objects with the collection's images, and report what is lost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser)
    parser.add_argument(
        "--repair",
        action="store_true",
        help="upload lost images again from the folders of this machine, and make lost thumbnails again; vectors stay."
        " Folders of other machines follow with their next sync",
    )


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments) as context:
        collection = await require_collection(context)
        store = await context.open_store(collection.bucket, damaged=True)
        target = SyncTarget(collection, store, context.database, context.decoder, context.retry, context.progress)
        found = remaining = await verify(target)
        if arguments.repair:
            await write_marker(context.database, store, replace(collection, marked=False))
            await repair(target, found.damaged)
            remaining = await verify(target)
    repaired = len(found.damaged) - len(remaining.damaged)
    output.print_result(
        {
            "bucket": collection.bucket,
            "damaged": [{"key": image.key, "problem": image.problem} for image in remaining.damaged],
            "repaired": repaired,
            "unknown_objects": remaining.unknown,
        },
        *_lines(collection, remaining, repaired),
        as_json=arguments.json,
    )
    return SOME_FAILED if remaining.damaged else DONE


def _lines(collection: Collection, remaining: Verification, repaired: int) -> Iterator[str]:
    for image in remaining.damaged:
        yield printable(f"{image.problem:<13}{image.key}")
    problems = ", ".join(f"{count:,} {problem}" for problem, count in remaining.problems.items())
    yield f"{collection.bucket}: {problems or 'every image has its objects'}; {repaired:,} repaired"
    if remaining.unknown:
        yield f"  {remaining.unknown:,} objects belong to no image; `syncer adopt` indexes the images among them"
