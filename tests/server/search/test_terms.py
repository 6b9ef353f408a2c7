"""Terms as URLs write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.search.terms import MAX_WEIGHT, Term


@given(
    st.builds(
        Term,
        st.sampled_from(["text", "image", "query_image"]),
        st.text(min_size=1).map(str.strip).filter(bool),
        st.floats(-MAX_WEIGHT, MAX_WEIGHT).map(lambda weight: round(weight, 9)).filter(bool),
    )
)
def test_a_written_term_parses_to_the_same_term(term: Term) -> None:
    assert Term.parse(str(term)) == term


@pytest.mark.parametrize(
    "written", ["", "people", "text:", "+text:people", "--text:a", "1e3*text:a", "nan*text:a", "x:a"]
)
def test_an_invalid_term_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="KIND:VALUE"):
        Term.parse(written)
