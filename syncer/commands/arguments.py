"""Arguments that several commands share."""

import argparse

from syncer.deletion_policy import DeletionPolicy


def add_bucket(parser: argparse.ArgumentParser, help: str = "name of the bucket (default: $BUCKET)") -> None:
    parser.add_argument("--bucket", metavar="NAME", help=help)


def add_upload_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--upload-concurrency", type=int, metavar="N", help="images processed in parallel (default: 8)")
    parser.add_argument("--no-derivatives", action="store_true", help="store no thumbnails and previews in the bucket")


def add_verbose(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--verbose", action="store_true", help=help)


def add_embed_concurrency(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--embed-concurrency", type=int, metavar="N", help="parallel model calls (default: 3)")


def add_deletion(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--delete", action="store_true", help=help)
    parser.add_argument("--yes", action="store_true", help="with --delete: delete any number of images")
    parser.add_argument("--dry-run", action="store_true", help="show what would be done and change nothing")


def deletion_policy(arguments: argparse.Namespace) -> DeletionPolicy:
    """Return the policy that ``--delete`` and ``--yes`` select."""
    return DeletionPolicy(requested=arguments.delete, confirmed=arguments.yes)
