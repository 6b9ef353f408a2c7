"""Line charts as SVG."""

from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#3b6ea8", "#d98b36", "#6a9c57", "#a35a7e")
_WIDTH, _HEIGHT, _LEFT, _TOP = 620, 260, 60, 50  # pixels


def line_chart(title: str, x_unit: str, y_unit: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a chart with a line for each series of points (x, y); both axes begin at 0."""
    last = max(x for points in lines.values() for x, _ in points)
    top = max(y for points in lines.values() for _, y in points) * 1.1
    shapes = [f'<text x="0" y="16" font-weight="bold">{escape(title)}</text>']
    for step in range(6):
        y = _TOP + _HEIGHT * (1 - step / 5)
        x = _LEFT + _WIDTH * step / 5
        shapes.append(f'<line x1="{_LEFT}" y1="{y:.0f}" x2="{_LEFT + _WIDTH}" y2="{y:.0f}" stroke="#ddd"/>')
        shapes.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{top * step / 5:,.0f}</text>')
        shapes.append(f'<text x="{x:.0f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{last * step / 5:.0f}</text>')
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{_LEFT + _WIDTH * x / last:.1f},{_TOP + _HEIGHT * (1 - y / top):.1f}" for x, y in points)
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        shapes.append(f'<rect x="{_LEFT + number * 180}" y="28" width="10" height="10" fill="{colour}"/>')
        shapes.append(f'<text x="{_LEFT + number * 180 + 15}" y="38">{escape(name)}</text>')
    shapes.append(f'<text x="{_LEFT + _WIDTH}" y="{_TOP + _HEIGHT + 34}" text-anchor="end">{escape(x_unit)}</text>')
    shapes.append(f'<text x="0" y="{_TOP - 6}">{escape(y_unit)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 20} {_TOP + _HEIGHT + 45}"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(shapes)
        + "\n</svg>\n"
    )
