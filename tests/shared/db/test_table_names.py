"""Names of a bucket's tables."""

from hypothesis import given
from hypothesis import strategies as st

from shared.db.table_names import SUFFIXES, base_name


def test_a_plain_bucket_name_only_replaces_dashes() -> None:
    assert base_name("product-photos") == "product_photos"


@given(st.sets(st.text("ab-_.A'", min_size=1, max_size=70), min_size=2, max_size=30))
def test_names_of_different_buckets_never_collide_and_fit_postgresql(buckets: set[str]) -> None:
    names = [f"{base_name(bucket)}_{suffix}" for bucket in buckets for suffix in SUFFIXES.values()]
    assert len(names) == len(set(names))
    assert max(len(name.encode()) for name in names) <= 63


def test_a_long_name_keeps_its_beginning_and_gets_a_hash() -> None:
    assert base_name("p" * 52) == "p" * 52
    assert base_name("p" * 53).startswith("p" * 40)
    assert base_name("p" * 53) != base_name("p" * 54)
