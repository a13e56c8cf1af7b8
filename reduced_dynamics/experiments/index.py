"""The index page of a folder of figures: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence

_STYLE = """
body { font: 16px/1.5 Georgia, "STIX Two Text", serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #202020; background: #ffffff; }
h1, h2 { font-weight: normal; line-height: 1.2; }
h2 { margin-top: 3rem; border-top: 1px solid #b0b0b0; padding-top: 1rem; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
pre { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap;
      background: #f5f5f5; padding: .8rem 1rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; }
td.n { text-align: right; }
.failed { color: #a03000; }
""".strip()


def page(
    names: Sequence[str],
    entries: Sequence,
    pictures: Mapping[str, bytes],
    versions: Mapping[str, str],
    source: str,
) -> str:
    """The page.

    Parameters
    ----------
    names : sequence of str
        All figures that were asked for; those without an entry were not reached.
    entries : sequence of folder.Entry
    pictures : mapping of str to bytes
        The SVG of every figure that there is.
    versions : mapping
    source : str
        Hash of this package's source.
    """
    by_name = {entry.id: entry for entry in entries}
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Figures: reduced dynamics</title>",
        f"<style>\n{_STYLE}\n</style></head><body>",
        "<h1>Figures of the papers, and what was measured</h1>",
        "<p>Every number below a figure is of the run that drew it. A line says whether the run "
        "agrees with the paper, differs from it, or measures what the paper does not claim.</p>",
        _overview(names, by_name),
    ]
    parts += [_section(by_name[name], pictures.get(name)) for name in names if name in by_name]
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts.append(f"<h2>Made with</h2>\n<p>{html.escape(said)}; source {source}.</p>")
    return "\n".join([*parts, "</body></html>", ""])


def _overview(names, by_name) -> str:
    rows = ["<table>", "<tr><th>figure</th><th></th><th>agrees</th><th>differs</th>"
            "<th>measured</th></tr>"]  # fmt: skip
    for name in names:
        entry = by_name.get(name)
        if entry is None:
            rows.append(f"<tr><td>{name}</td><td>not made: interrupted before</td></tr>")
        elif entry.record is None:
            rows.append(f'<tr><td><a href="#{name}">{name}</a></td><td class="failed">failed</td>')
        else:
            counts = "".join(
                f'<td class="n">{entry.record["verdicts"][kind]}</td>'
                for kind in ("agrees", "differs", "measured")
            )
            title = html.escape(entry.record["title"])
            rows.append(f'<tr><td><a href="#{name}">{name}</a></td><td>{title}</td>{counts}</tr>')
    return "\n".join([*rows, "</table>"])


def _section(entry, picture: bytes | None) -> str:
    if entry.record is None:
        return (
            f'<h2 id="{entry.id}">{entry.id}</h2>\n'
            f'<p class="failed">This figure failed: {html.escape(entry.error)}</p>'
        )
    record = entry.record
    data = base64.b64encode(picture or b"").decode()
    numbers = json.dumps(record["numbers"], indent=1, ensure_ascii=False)
    title = html.escape(f"{entry.id}: {record['title']}")
    return "\n".join(
        [
            f'<h2 id="{entry.id}">{title}</h2>',
            f'<img alt="{title}" src="data:image/svg+xml;base64,{data}">',
            f"<pre>{html.escape(_body(record['caption']))}</pre>",
            f"<details><summary>all numbers of this run ({record['wall_s']:.0f} s)</summary>"
            f"<pre>{html.escape(numbers)}</pre></details>",
        ]
    )


def _body(caption: str) -> str:
    """The caption without its heading, which the page has already."""
    return caption.partition("\n\n")[2]
