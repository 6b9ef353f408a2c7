"""Liveness and readiness while the database is down."""

import psycopg

from tests.helpers.processes import Server


def test_a_server_without_its_database_is_alive_but_not_ready(server: Server, database_url: str, postgres: str) -> None:
    assert server.http.get("/readyz").status_code == 200
    name = database_url.split("/")[-1].split("?")[0]
    with psycopg.connect(postgres, autocommit=True) as conn:
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        assert server.http.get("/healthz").status_code == 200
        unavailable = server.http.get("/api/images")
        assert unavailable.status_code == 503
        assert unavailable.headers["retry-after"]
        assert server.http.get("/readyz").status_code == 503
        conn.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert server.http.get("/readyz").status_code == 200
