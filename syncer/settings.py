"""What the syncer reads from the environment beside what both processes share."""

from pydantic import Field

from shared.settings import Settings


class SyncerSettings(Settings):
    """The syncer's settings."""

    upload_concurrency: int = Field(8, ge=1, le=64)
    embed_concurrency: int = Field(3, ge=1, le=64)
    # For how many seconds an image stays with the process that claimed it without a sign of life.
    lease_seconds: float = Field(120, gt=0)
    # For how many seconds a run waits while the database, the store or the model's service is away.
    outage_patience_seconds: float = Field(86_400, ge=0)
    # How often an image is tried where another try may help, and the seconds before the second try; each further
    # try waits four times as long.
    image_attempts: int = Field(3, ge=1)
    image_retry_seconds: float = Field(5, ge=0)
    # After how many seconds a watch looks at the whole folder again, whatever it was told.
    watch_rescan_seconds: float = Field(600, gt=0)
