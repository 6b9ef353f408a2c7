"""The command ``syncer`` with timeouts of seconds instead of minutes for Replicate."""

from functools import partial

from shared.embedders.replicate import embedder
from syncer.cli import main

if __name__ == "__main__":
    embedder.Timeouts = partial(  # type: ignore[misc, assignment]
        embedder.Timeouts, prediction=3, server_wait=2, response=1, retry_timeout=3, max_wait=1
    )
    main()
