"""A sync with a local model embeds photos without fetching them from the bucket."""

from pathlib import Path

import psycopg

from tests.fakes.s3 import FaultyProxy, S3Server, s3_environment
from tests.helpers.pictures import make_pictures
from tests.helpers.processes import Syncer


def test_a_sync_fetches_nothing_and_stores_the_vectors_of_a_later_run(
    syncer: Syncer, s3: S3Server, proxy: FaultyProxy, database_url: str, tmp_path: Path
) -> None:
    make_pictures(tmp_path / "pictures", 40)
    syncer = Syncer(syncer.environment | s3_environment(proxy.url))
    for bucket in ("together", "apart"):
        s3.make_bucket(bucket)
    together = syncer("sync", tmp_path / "pictures", "--bucket", "together", "--json")
    assert together.status == 0, together.stderr
    assert together.json["embedded"] == together.json["embedded_now"] == together.json["uploaded"] == 40
    assert proxy.counts["get"] == 0

    assert syncer("upload", tmp_path / "pictures", "--bucket", "apart").status == 0
    assert syncer("embed", "--bucket", "apart").status == 0
    assert proxy.counts["get"] == 40
    with psycopg.connect(database_url) as conn:
        vectors = "together_embeddings AS a JOIN apart_embeddings AS b USING (r2_key)"
        cosines = conn.execute(f"SELECT -(a.embedding <#> b.embedding) FROM {vectors}").fetchall()
    assert len(cosines) == 40
    assert min(cosine for (cosine,) in cosines) > 0.999

    assert syncer("drop", "--bucket", "apart", "--yes", "--keep-objects").status == 0
    proxy.clear()
    assert syncer("adopt", "--bucket", "apart", "--json").json["embedded"] == 40
    assert proxy.counts["get"] == 40, "once each, to be examined and embedded"
