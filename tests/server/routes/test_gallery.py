"""The HTML of the gallery as the server renders it, before any script runs."""

import re

import pytest

from tests.helpers.processes import Server

pytestmark = pytest.mark.xdist_group("filled")


def test_commands_for_an_empty_list_name_the_collection(filled_server: Server) -> None:
    page = filled_server.http.get("/?bucket=b").text
    assert "<code>syncer embed --bucket b</code>" in page
    assert "<code>syncer sync ~/Pictures --bucket b</code>" in page


def test_a_missing_image_is_named_in_place_of_its_similar_ones(filled_server: Server) -> None:
    answer = filled_server.http.get("/?bucket=b&similar=999999")
    assert answer.status_code == 404
    alert = answer.text.partition('role="alert">')[2].partition("<ol")[0]
    assert "Image not found" in alert
    assert 'href="/?bucket=b"' in alert


def test_the_address_of_one_image_is_previewed_with_that_image(filled_server: Server) -> None:
    image = filled_server.get("/api/images", bucket="b", limit=9)["images"][8]
    page = filled_server.http.get(f"/?bucket=b&view={image['id']}").text
    assert f"<title>{image['key'].split('/')[-1]} · b</title>" in page
    assert f'<meta property="og:image" content="{filled_server.url}{image["preview_url"]}">' in page
    assert filled_server.http.get("/?bucket=b&view=999999").status_code == 200


def test_links_that_leave_a_search_drop_its_literal_phrases(filled_server: Server) -> None:
    page = filled_server.http.get("/?bucket=b&q=red+2021&literal=2021&camera=x").text
    assert 'href="/?bucket=b" data-nav' in page
    shown = filled_server.http.get("/?bucket=b&q=red+2021&literal=2021").text
    assert "similar=" in shown
    assert not [link for link in re.findall(r'href="([^"]*)"', shown) if "similar=" in link and "literal=" in link]
