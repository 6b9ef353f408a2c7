"""The command ``syncer`` with less patience for Replicate: what takes it minutes takes seconds here."""

from functools import partial

from shared.embedders.replicate import embedder
from syncer.cli import main

if __name__ == "__main__":
    embedder.Timing = partial(  # type: ignore[misc, assignment]
        embedder.Timing, deadline=3, wait=2, response=1, retry_timeout=3, longest_backoff=1, unsaid_pause=0.1, window=5
    )
    main()
