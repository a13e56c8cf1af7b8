"""The index page of a gallery: one HTML file that needs nothing beside it."""

import base64
import html
import json
from collections.abc import Mapping, Sequence

from reduced_dynamics.experiments.finding import tally

_STYLE = """
body { font: 16px/1.5 Georgia, "STIX Two Text", serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #202020; background: #ffffff; }
h1, h2 { font-weight: normal; line-height: 1.2; }
h2 { margin-top: 3rem; border-top: 1px solid #b0b0b0; padding-top: 1rem; }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0; }
pre, code { font: 13px/1.45 ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap;
      background: #f5f5f5; overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; }
table { border-collapse: collapse; }
td, th { text-align: left; padding: .15rem .9rem .15rem 0; vertical-align: top; }
td.n { text-align: right; }
.failed { color: #a03000; }
.answer { font-weight: bold; }
""".strip()
_KINDS = ("agrees", "differs", "not decided", "measured")


def index(names: Sequence[str], entries: Sequence, drawings: Mapping[str, bytes]) -> str:
    """The page.

    Parameters
    ----------
    names : sequence of str
        All experiments that were asked for; those without an entry were not reached.
    entries : sequence of gallery.Entry
    drawings : mapping of str to bytes
        The SVG of every experiment that was performed.
    """
    by_name = {entry.name: entry for entry in entries}
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Experiments: reduced dynamics</title>",
        f"<style>\n{_STYLE}\n</style></head><body>",
        "<h1>Questions, and what was measured</h1>",
        "<p>Every number below a figure is of the run that drew it. A line says whether the run "
        "agrees with the paper, differs from it, leaves it undecided, or measures what the paper "
        "does not claim.</p>",
        _overview(names, by_name),
        *(_section(by_name[name], drawings.get(name)) for name in names if name in by_name),
    ]
    made = next((entry.result for entry in entries if entry.result is not None), None)
    if made is not None:
        said = ", ".join(f"{name} {version}" for name, version in made.versions.items())
        parts.append(f"<h2>Made with</h2>\n<p>{html.escape(said)}</p>")
    return "\n".join([*parts, "</body></html>", ""])


def _overview(names, by_name) -> str:
    heads = "".join(f"<th>{kind}</th>" for kind in _KINDS)
    rows = ["<table>", f"<tr><th>experiment</th><th></th>{heads}</tr>"]
    for name in names:
        entry = by_name.get(name)
        if entry is None:
            rows.append(f"<tr><td>{name}</td><td>not made: interrupted before</td></tr>")
            continue
        link = f'<td><a href="#{name}">{name}</a></td>'
        if entry.result is None:
            rows.append(f'<tr>{link}<td class="failed">failed</td></tr>')
            continue
        counts = tally(entry.result.findings)
        cells = "".join(f'<td class="n">{counts[kind]}</td>' for kind in _KINDS)
        title = html.escape(entry.result.declared.title or entry.result.declared.question)
        rows.append(f"<tr>{link}<td>{title}</td>{cells}</tr>")
    return "\n".join([*rows, "</table>"])


def _section(entry, drawing: bytes | None) -> str:
    if entry.result is None:
        return (
            f'<h2 id="{entry.name}">{entry.name}</h2>\n'
            f'<p class="failed">This experiment failed: {html.escape(entry.error)}</p>'
        )
    result, known = entry.result, entry.result.declared
    data = base64.b64encode(drawing or b"").decode()
    numbers = json.dumps(result.numbers, indent=1, ensure_ascii=False)
    title = html.escape(f"{entry.name}: {known.question}")
    first, *others = map(str, result.findings)
    claim = f"The paper ({known.source}): {' '.join(known.claim.split())}" if known.claim else ""
    return "\n".join(
        [
            f'<h2 id="{entry.name}">{title}</h2>',
            f'<p class="answer">{html.escape(first)}</p>',
            f"<p>{html.escape(claim)}</p>" if claim else "",
            f'<img alt="{title}" src="data:image/svg+xml;base64,{data}">',
            f"<p>Here: {html.escape(result.caption)}</p>" if result.caption else "",
            "<ul>" + "".join(f"<li>{html.escape(one)}</li>" for one in others) + "</ul>",
            f"<p><code>{html.escape(result.command)}</code></p>",
            f"<details><summary>all numbers of this run ({result.wall_s:.0f} s)</summary>"
            f"<pre>{html.escape(numbers)}</pre></details>",
        ]
    )
