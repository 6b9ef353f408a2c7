"""Tokens and sessions in the database, as several servers see them."""

import pytest

from server.access import MAX_WRONG_TOKENS, READ_ACCESS, WRITE_ACCESS, Access, AccessTokens
from server.problem import Problem
from server.secret_key import SecretKey
from server.settings import ServerSettings
from shared.db.pool import Database
from shared.errors import DatabaseError
from shared.sql import api_tokens

READ_TOKEN, API_TOKEN, STORED_TOKEN = "read-token-of-settings", "api-token-of-settings", "a-token-of-the-database"


def server_on(database: Database, **tokens: str) -> AccessTokens:
    settings = ServerSettings(**tokens)  # type: ignore[arg-type]
    return AccessTokens(settings, database, SecretKey(settings, database))


async def store_token(database: Database, *, writes: bool = False) -> None:
    digest = api_tokens.digest_of(STORED_TOKEN)
    assert await database.run(api_tokens.add, "mine", digest, bucket=None, writes=writes)


async def test_tokens_of_the_database_work_beside_those_of_the_settings(database: Database) -> None:
    server = server_on(database, read_token=READ_TOKEN, api_token=API_TOKEN)
    assert await server.access(STORED_TOKEN, client="a") is None
    await store_token(database, writes=True)
    assert await server.access(STORED_TOKEN, client="a") == Access(None, writes=True)
    assert await server.access(READ_TOKEN, client="a") == READ_ACCESS
    assert await server.access(API_TOKEN, client="a") == WRITE_ACCESS
    assert await database.run(api_tokens.revoke, "mine")
    assert await server.access(STORED_TOKEN, client="a") is None


async def test_the_use_of_a_token_is_recorded_at_most_once_a_minute(database: Database) -> None:
    server = server_on(database)
    await store_token(database)
    uses = []
    for _ in range(2):
        await server.access(STORED_TOKEN, client="a")
        uses.append((await database.run(api_tokens.list_all))[0].last_used_at)
    assert uses[0] == uses[1] is not None


async def test_a_client_that_guesses_is_locked_out_of_all_servers_and_others_are_not(database: Database) -> None:
    servers = [server_on(database, read_token=READ_TOKEN) for _ in range(2)]
    for number in range(MAX_WRONG_TOKENS):
        assert await servers[number % 2].access(f"guess {number}", client="a") is None
    for server in servers:
        for token in (READ_TOKEN, "another guess"):
            with pytest.raises(Problem, match=r"20 wrong tokens within a minute: try again in \d+ s"):
                await server.access(token, client="a")
        assert await server.access(READ_TOKEN, client="b") == READ_ACCESS


async def test_repeating_an_outdated_token_is_not_guessing(database: Database) -> None:
    server = server_on(database, read_token=READ_TOKEN)
    for _ in range(2 * MAX_WRONG_TOKENS):
        assert await server.access("an outdated token", client="a") is None
    assert await server.access(READ_TOKEN, client="a") == READ_ACCESS


async def test_a_session_ends_on_all_servers_and_leaves_others_alone(database: Database) -> None:
    one, other = (server_on(database, api_token=API_TOKEN) for _ in range(2))
    laptop, phone = [await one.start_session(API_TOKEN) for _ in range(2)]
    assert await other.access_of_session(laptop) == WRITE_ACCESS
    await other.end_session(laptop)
    assert await one.access_of_session(laptop) is None
    assert await one.access_of_session(phone) == WRITE_ACCESS


async def test_a_session_ends_with_its_token(database: Database) -> None:
    server = server_on(database, read_token=READ_TOKEN)
    await store_token(database)
    cookie, cookie_of_stored = await server.start_session(READ_TOKEN), await server.start_session(STORED_TOKEN)
    assert await server.access_of_session(cookie_of_stored) == READ_ACCESS
    assert await database.run(api_tokens.revoke, "mine")
    assert await server.access_of_session(cookie_of_stored) is None
    assert await server.access_of_session(cookie) == READ_ACCESS
    assert await server_on(database, read_token="another-read-token").access_of_session(cookie) is None


async def test_only_tokens_of_the_settings_work_without_the_database() -> None:
    unreachable = Database("postgresql://127.0.0.1:1/nothing", max_connections=1, retry_timeout=0, checkout_timeout=0.1)
    await unreachable.open()
    try:
        server = server_on(unreachable, read_token=READ_TOKEN)
        assert await server.access(READ_TOKEN, client="a") == READ_ACCESS
        with pytest.raises(DatabaseError):
            await server.access(STORED_TOKEN, client="a")
    finally:
        await unreachable.close()
