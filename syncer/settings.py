"""Settings of the syncer, in addition to the shared ones."""

from pydantic import Field

from shared.settings import Settings

# Defaults of OUTAGE_PATIENCE_SECONDS. A sync has work that can wait; a report is wanted now, or not at all.
PATIENCE, PATIENCE_OF_READERS = 86_400.0, 900.0


class SyncerSettings(Settings):
    """The syncer's settings."""

    upload_concurrency: int = Field(8, ge=1, le=64)
    embed_concurrency: int = Field(3, ge=1, le=64)
    # Whether to read the words in pictures; unset, a collection keeps what it has (syncer/reading.py).
    ocr: bool | None = None
    # Seconds after which another worker may take over an image; live workers renew their leases in time.
    lease_seconds: float = Field(120, gt=0)
    # Seconds for which a run retries while the database, the store or the model's service is unavailable.
    outage_patience_seconds: float | None = Field(None, ge=0)
    # Attempts at an image that may succeed later, and seconds before the second one; each further delay is four times
    # as long.
    image_attempts: int = Field(3, ge=1)
    image_retry_seconds: float = Field(5, ge=0)
    # Seconds after which a watch scans the whole folder again, in case file system events were lost.
    watch_rescan_seconds: float = Field(600, gt=0)

    def outage_patience(self, *, reads_only: bool) -> float:
        """Return OUTAGE_PATIENCE_SECONDS, or the default of commands that write or only read."""
        if self.outage_patience_seconds is not None:
            return self.outage_patience_seconds
        return PATIENCE_OF_READERS if reads_only else PATIENCE
