"""Rows about images as CSV and JSON."""

import csv
import io
import json
from collections.abc import AsyncIterator, Sequence

from server import table_export
from server.schemas.responses import ExportRow


def row(key: str, camera: str | None = None, keywords: Sequence[str] = (), score: float | None = None) -> ExportRow:
    return ExportRow(
        id=1, key=key, url="http://x/1", taken_at=None, camera=camera, keywords=list(keywords), score=score
    )


async def pages_of(*rows: ExportRow) -> AsyncIterator[Sequence[ExportRow]]:
    for each in rows:
        yield [each]


async def table_of(*rows: ExportRow) -> list[list[str]]:
    text = b"".join([line async for line in table_export.csv_lines(pages_of(*rows))]).decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text)))


async def test_a_spreadsheet_runs_no_cell_as_a_formula() -> None:
    _, *rows = await table_of(*(row(f"{start}1+1.jpg") for start in "=+-@\t\r"))
    assert [cells[1][0] for cells in rows] == ["'"] * 6
    [_, cells] = await table_of(row("a.jpg", camera="@cmd", keywords=["=1", "b"], score=-0.25))
    assert cells == ["1", "a.jpg", "http://x/1", "", "'@cmd", "'=1; b", "-0.25"]


async def test_cells_keep_commas_quotes_and_line_breaks() -> None:
    names, cells = await table_of(row('a,"b"\nc.jpg'))
    assert names == ["id", "key", "url", "taken_at", "camera", "keywords", "score"]
    assert cells[1] == 'a,"b"\nc.jpg'


async def test_json_has_the_rows_of_all_pages() -> None:
    for rows in ([], [row("a.jpg")], [row("a.jpg"), row("\xe4.jpg", keywords=["x"], score=0.5)]):
        text = b"".join([line async for line in table_export.json_lines(pages_of(*rows))])
        assert json.loads(text) == {"images": rows}
