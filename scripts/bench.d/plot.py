"""Draws figures as SVG."""


def bars(folder, name, title, figures, ours):
    """A bar for each, ours in another colour, readable on a light and on a dark page; and the lines that show it."""
    most = max(value for _, value in figures)
    height = 34 + 26 * len(figures)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="720" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-weight="bold" fill="#222222">{title}</text>',
    ]
    for index, (who, value) in enumerate(figures):
        top = 32 + 26 * index
        colour = "#2a6f97" if who == ours else "#a9b4c2"
        lines.append(f'<text x="236" y="{top + 14}" text-anchor="end" fill="#222222">{who.replace("&", "&amp;")}</text>')
        lines.append(f'<rect x="244" y="{top}" width="{max(2, 400 * value / most):.1f}" height="19" fill="{colour}"/>')
        lines.append(f'<text x="{250 + 400 * value / most:.1f}" y="{top + 14}" fill="#222222">{value:.1f}</text>')
    lines.append("</svg>")
    with open(f"{folder}/{name}.svg", "w") as drawing:
        drawing.write("\n".join(lines) + "\n")
    yield from ("", f"![{title}]({name}.svg)")
