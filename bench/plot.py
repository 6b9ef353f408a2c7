"""Bar charts as SVG."""

from html import escape

_COLOURS = ("#3b6ea8", "#d98b36", "#6a9c57", "#a35a7e", "#8a8a8a", "#c2b14a")
_LABELS, _WIDTH, _ROW = 190, 480, 26  # pixels


def bar_chart(title: str, unit: str, rows: dict[str, dict[str, float]]) -> str:
    """Return a chart with a stacked bar for each row; the parts of the bars are named in the legend."""
    names = list(dict.fromkeys(name for parts in rows.values() for name in parts))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    scale = _WIDTH / max(sum(parts.values()) for parts in rows.values())
    shapes = [f'<text x="0" y="16" font-weight="bold">{escape(title)}</text>']
    for number, (name, colour) in enumerate(colours.items()):
        x = number * 120
        shapes.append(f'<rect x="{x}" y="28" width="10" height="10" fill="{colour}"/>')
        shapes.append(f'<text x="{x + 15}" y="38">{escape(name)}</text>')
    for number, (label, parts) in enumerate(rows.items()):
        y, x = 52 + number * _ROW, float(_LABELS)
        shapes.append(f'<text x="0" y="{y + 14}">{escape(label)}</text>')
        for name, value in parts.items():
            width = value * scale
            shapes.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="18" fill="{colours[name]}"/>')
            x += width
        total = sum(parts.values())
        shapes.append(f'<text x="{x + 5:.1f}" y="{y + 14}">{total:,.{0 if total >= 100 else 1}f} {escape(unit)}</text>')
    width, height = _LABELS + _WIDTH + 110, 60 + len(rows) * _ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="white"/>\n' + "\n".join(shapes) + "\n</svg>\n"
    )
