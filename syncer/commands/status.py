"""`syncer status`: show the progress of collections."""

import argparse
from dataclasses import asdict
from typing import Any

from shared.collection_status import format_status
from shared.db.pool import Connection
from shared.models import Collection
from shared.sql import collections, stats, texts, vector_index
from syncer import output, reembedding
from syncer.commands.arguments import add_bucket
from syncer.context import DONE, open_context, read_status, require_collection

HELP = "show counts, speed, time left, costs and failures of each collection"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_bucket(parser, "show only this bucket")


async def run(arguments: argparse.Namespace) -> int:
    async with open_context(arguments, schema="check") as context:
        if arguments.bucket:
            selected = [await require_collection(context)]
        else:
            selected = await context.database.run(collections.list_all)
        reports = [await context.database.run(_report, collection) for collection in selected]
    lines = [line for _, report_lines in reports for line in report_lines]
    output.print_result(
        {"buckets": [result for result, _ in reports]},
        *(lines or ["no collections; `syncer sync DIR --bucket NAME` creates one"]),
        as_json=arguments.json,
    )
    return DONE


async def _report(conn: Connection, collection: Collection) -> tuple[dict[str, Any], list[str]]:
    """Return the status of a collection, its OCR and its second set of vectors, as JSON and as lines for people."""
    status = await read_status(conn, collection)
    index = await vector_index.find(conn, collection)
    result = status.as_json() | {"index": asdict(index), "beside": None, "ocr": None}
    lines = list(output.format_collection(status))
    if collection.ocr:
        read = await stats.counts(conn, texts.stage(collection))
        result["ocr"] = {"read": read.embedded, "pending": read.pending, "failed": read.failed}
        lines.append("  text: " + ", ".join(f"{number:,} {name}" for name, number in result["ocr"].items()))
    if index.state != "ready":
        progress = "" if index.progress is None else f", {index.progress:.0%} of the vectors"
        lines.append(f"  {index.kind} index: {index.state}{progress}; searches compare with all vectors meanwhile")
    if following := await reembedding.find_next(conn, collection):
        state, second = following[0].state, await read_status(conn, following[1])
        result["beside"] = second.as_json() | {"state": state}
        if state == "previous":
            lines.append(f"  previous vectors of {second.model}: reembed --rollback restores, --forget deletes them")
        else:
            progress = state if state == "preparing" else format_status(second)
            lines.append(f"  re-embedding with {second.model}: {progress}")
    return result, lines
