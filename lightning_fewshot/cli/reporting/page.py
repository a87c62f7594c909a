"""The page of ``report``: everything in one file, nothing loaded from anywhere."""

from __future__ import annotations

import json
import time
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from lightning_fewshot.cli.reporting.curves import learning_curves, success_plots
from lightning_fewshot.cli.reporting.pictures import KINDS, data_uri, gallery
from lightning_fewshot.cli.reporting.plots import interval_bar, style
from lightning_fewshot.cli.runs import Run, Runs

PAGE = Path(__file__).parent / "page"
COLUMNS = ("run", "model", "data", "split", "way", "shot", "metric", "value", "95 % interval", "", "n", "seed", "step")
NUMERIC = {"way", "shot", "value", "95 % interval", "n", "seed", "step"}
FILTERS = ("model", "data", "split", "metric")  # columns that have a menu
SCORE_PLOTS = ("success.png", "precision.png", "norm_precision.png")


def page(runs: Runs, title: str) -> str:
    """Return the page.

    Args:
        runs: What was found; ``problems`` are listed, those of pictures too.
        title: Heading of the page.
    """
    problems = list(runs.problems)
    galleries = _galleries(runs.found, problems)
    contents = {
        "Results": _filters(runs.found) + _table(runs.found),
        "Comparison of two runs": _comparison(runs.found),
        "Learning curves": _plots(learning_curves(runs.found), runs.found, "curves"),
        "Success plots": _success(runs.found),
        "Best and worst episodes": galleries,
        "Left out": _problems(problems),
    }
    sections = {title: (title.split()[0].lower(), content) for title, content in contents.items() if content}
    return Template((PAGE / "report.html").read_text()).substitute(
        title=escape(title),
        style=(PAGE / "report.css").read_text(),
        script=(PAGE / "report.js").read_text(),
        summary=f"{len(runs.found)} runs, {time.strftime('%Y-%m-%d %H:%M')}",
        links="".join(f'<a href="#{name}">{title}</a>' for title, (name, _) in sections.items()),
        sections="\n".join(_section(title, *section) for title, section in sections.items()),
        data=json.dumps(_compared(runs.found)).replace("<", "\\u003c"),
    )


def _section(title: str, name: str, content: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>{content}</section>'


def _filters(runs: list[Run]) -> str:
    menus = []
    for column in FILTERS:
        values = sorted({row[column] for run in runs for row in _rows(run)})
        options = "".join(f"<option>{escape(value)}</option>" for value in values)
        menus.append(
            f'<label>{column} <select data-column="{column}"><option value="">all</option>{options}</select></label>'
        )
    search = '<label>search <input id="search" type="search" placeholder="words, all of which must occur"></label>'
    return f'<form class="filters">{search}{"".join(menus)}<output id="shown"></output></form>'


def _table(runs: list[Run]) -> str:
    head = "".join(
        f'<th data-kind="{"number" if name in NUMERIC else "text"}">'
        + (f"<button>{name}</button>" if name else "")
        + "</th>"
        for name in COLUMNS
    )
    spans = _spans(runs)
    body = [
        f'<tr data-run="{number}">{"".join(_cells(row, run, number, spans))}</tr>'
        for number, run in enumerate(runs)
        for row in _rows(run)
    ]
    table = f'<table id="results-table"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return f'<div class="wide">{table}</div>'


def _rows(run: Run) -> list[dict[str, Any]]:
    """Return the values of a run's rows, one a metric, by column."""
    protocol = run.record["protocol"]
    base = {"run": run.name, "model": run.record["model"], "data": run.data}
    base |= {"split": str(protocol.get("split", "")), "way": protocol.get("n_way"), "shot": protocol.get("k_shot")}
    base |= {"seed": run.look_up("config.seed_everything", protocol.get("seed")), "step": run.record.get("step")}
    return [
        base | {"metric": name, "value": m.get("value"), "interval": m.get("ci95") or (None, None), "n": m.get("n")}
        for name, m in run.metrics.items()
    ]


def _cells(row: dict[str, Any], run: Run, number: int, spans: dict[str, tuple[float, float]]) -> list[str]:
    low, high = row["interval"]
    value = row["value"]
    key = f'<svg class="key" viewBox="0 0 18 6"><line x1="0" x2="18" y1="3" y2="3" {style(number)}/></svg>'
    cells = [f'<td title="{escape(run.command)}">{key}{escape(run.name)}</td>']
    cells += [f"<td>{escape(row[column])}</td>" for column in ("model", "data", "split")]
    cells += [_number(row["way"]), _number(row["shot"]), f"<td>{escape(row['metric'])}</td>", _number(value)]
    width = None if low is None else high - low
    interval = "–" if width is None else f"{_text(low)} to {_text(high)}"
    cells.append(f'<td class="number" data-value="{"" if width is None else width}">{interval}</td>')
    bar = "" if value is None else interval_bar(value, low, high, spans[row["metric"]])
    cells.append(f"<td>{bar}</td>")
    return [*cells, _number(row["n"]), _number(row["seed"]), _number(row["step"])]


def _spans(runs: list[Run]) -> dict[str, tuple[float, float]]:
    """Return the range of each metric over all runs: the bars of one metric share a scale."""
    ends: dict[str, list[float]] = {}
    for row in (row for run in runs for row in _rows(run)):
        ends.setdefault(row["metric"], []).extend(v for v in (row["value"], *row["interval"]) if v is not None)
    return {metric: (min(values), max(values)) for metric, values in ends.items() if values}


def _number(value: Any) -> str:
    text = "–" if value is None else escape(_text(value))
    return f'<td class="number" data-value="{"" if value is None else escape(str(value))}">{text}</td>'


def _text(value: Any) -> str:
    """Return a number with as many decimals as its size deserves: 0.4512, 51.22, 40585; counts have none."""
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 10 and value.is_integer():
        return f"{value:.0f}"
    digits = next(digits for limit, digits in ((10, 4), (1000, 2), (float("inf"), 0)) if abs(value) <= limit)
    return f"{value:.{digits}f}"


def _comparison(runs: list[Run]) -> str:
    if len(runs) < 2:
        return "<p>One run alone: nothing to compare.</p>"
    return (
        '<form class="filters"><label>metric <select id="compare-metric"></select></label>'
        '<label>A <select id="compare-a"></select></label><label>B <select id="compare-b"></select></label></form>'
        '<div id="compared"><noscript>The comparison needs JavaScript.</noscript></div>'
    )


def _compared(runs: list[Run]) -> list[dict[str, Any]]:
    """Return what the page's script compares runs by."""
    return [
        {
            "name": run.name,
            "protocol": {k: v for k, v in run.record["protocol"].items() if not k.startswith("weights")},
            "data": run.data,
            "metrics": {name: [m.get("value"), *(m.get("ci95") or (None, None))] for name, m in run.metrics.items()},
            "episodes": {name: values for name in run.metrics if (values := run.episodes(name))},
        }
        for run in runs
    ]


def _plots(plots: list[str], runs: list[Run], name: str) -> str:
    if not plots:
        return ""
    used = [number for number in range(len(runs)) if any(f'data-run="{number}"' in plot for plot in plots)]
    legend = "".join(
        f'<li data-run="{n}"><svg class="key" viewBox="0 0 18 6"><line x1="0" x2="18" y1="3" y2="3" {style(n)}/></svg>'
        f"{escape(runs[n].name)}</li>"
        for n in used
    )
    return f'<ul class="legend">{legend}</ul><div class="plots" id="{name}-plots">{"".join(plots)}</div>'


def _success(runs: list[Run]) -> str:
    parts = [_plots(success_plots(runs), runs, "success")]
    for folder in dict.fromkeys(run.folder for run in runs if run.record["experiment"] == "score"):
        uris = {name: data_uri(folder / name) for name in SCORE_PLOTS if (folder / name).is_file()}
        figures = [f'<figure><img alt="{name}" src="{uri}"></figure>' for name, uri in uris.items() if uri]
        parts.append(f'<h3>{escape(str(folder))}</h3><div class="pictures">{"".join(figures)}</div>' if figures else "")
    return "".join(parts)


def _galleries(runs: list[Run], problems: list[str]) -> str:
    parts = []
    for number, run in enumerate(runs):
        pictures = gallery(run.folder / "pictures", problems)
        groups = [_group(kind, [p for p in pictures if p.kind == kind]) for kind in KINDS]
        if pictures:
            parts.append(f'<article data-run="{number}"><h3>{escape(run.name)}</h3>{"".join(groups)}</article>')
    return "".join(parts)


def _group(kind: str, pictures: list[Any]) -> str:
    figures = [
        f'<figure><img alt="{escape(p.caption)}" src="{p.uri}"><figcaption>{escape(p.caption)}</figcaption></figure>'
        for p in pictures
    ]
    return f'<div class="pictures {kind}">{"".join(figures)}</div>' if figures else ""


def _problems(problems: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(problem)}</li>' for problem in problems)}</ul>" if problems else ""
