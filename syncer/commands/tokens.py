"""`syncer tokens`: API tokens that are kept in the database."""

import argparse
import secrets
from datetime import datetime

from shared.errors import SettingsError
from shared.printable import printable
from shared.sql import api_tokens, collections
from shared.sql.api_tokens import ApiToken
from syncer import output
from syncer.context import DONE, CommandContext, open_context

HELP = "add, list and revoke tokens for the server's API"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True, help="what to do")
    add = actions.add_parser("add", help="create a token and print it, this once")
    add.add_argument("name", help="name of the token, to revoke it by")
    add.add_argument("--bucket", metavar="NAME", help="the only bucket that the token opens (default: all buckets)")
    add.add_argument("--write", action="store_true", help="allow adding and deleting images (default: reading only)")
    listing = actions.add_parser("list", help="list the tokens, their rights, and when they were last used")
    revoke = actions.add_parser("revoke", help="delete a token, which ends the sessions of browsers that used it")
    revoke.add_argument("name", help="name of the token")
    for action in (add, listing, revoke):
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print the result as one JSON object"
        )


async def run(arguments: argparse.Namespace) -> int:
    action = {"add": _add, "list": _list, "revoke": _revoke}[arguments.action]
    async with open_context(arguments, schema="check" if arguments.action == "list" else "migrate") as context:
        await action(context, arguments)
    return DONE


async def _add(context: CommandContext, arguments: argparse.Namespace) -> None:
    name, bucket, writes = arguments.name, arguments.bucket, arguments.write
    if bucket and await context.database.run(collections.find, bucket=bucket) is None:
        raise SettingsError(f"no collection {bucket!r}: `syncer buckets` lists them")
    token = secrets.token_urlsafe(24)
    digest = api_tokens.digest_of(token)
    if not await context.database.run(api_tokens.add, name, digest, bucket=bucket, writes=writes):
        raise SettingsError(f"there is a token {name!r} already: choose another name, or revoke it first")
    output.print_result(
        {"name": name, "bucket": bucket, "writes": writes, "token": token}, token, as_json=arguments.json
    )
    if not writes:
        context.progress.say("reading needs a token only on servers that have READ_TOKEN or READ_TOKENS")


async def _list(context: CommandContext, arguments: argparse.Namespace) -> None:
    tokens = await context.database.run(api_tokens.list_all)
    output.print_result({"tokens": [vars(token) for token in tokens]}, *map(_format, tokens), as_json=arguments.json)


async def _revoke(context: CommandContext, arguments: argparse.Namespace) -> None:
    if not await context.database.run(api_tokens.revoke, arguments.name):
        raise SettingsError(f"there is no token {arguments.name!r}: `syncer tokens list` shows all")
    output.print_result({"name": arguments.name, "revoked": True}, f"revoked {arguments.name}", as_json=arguments.json)


def _format(token: ApiToken) -> str:
    rights = "read and write" if token.writes else "read"
    bucket = token.bucket or "all buckets"
    used = f"last used {_minute(token.last_used_at)}" if token.last_used_at else "never used"
    return printable(f"{token.name}  {rights}  {bucket}  created {_minute(token.created_at)}  {used}")


def _minute(moment: datetime) -> str:
    return moment.astimezone().isoformat(" ", "minutes")
