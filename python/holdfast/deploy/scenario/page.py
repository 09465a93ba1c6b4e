"""The report's page: one file without scripts, with a chart of requests, faults, nodes and pods over time."""

from __future__ import annotations

import html
import json
from typing import Any

_WIDTH, _LEFT, _HEIGHT, _ROW = 960, 190, 150, 20
_COLOURS = {"served": "#3b7d4f", "failed": "#b3261e", "fault": "#f3b33d"}
_STATES = (("not", "#c9c9c9"), ("gone", "#ffffff"), ("leaving", "#d9a36a"), ("ready", "#7fb98f"), ("in use", "#7fb98f"))
_OTHER = "#b56a9c"
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1d1d1d; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem } svg text { font: 11px system-ui, sans-serif; fill: #333 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25rem .6rem .25rem 0; vertical-align: top;
border-bottom: 1px solid #ddd; overflow-wrap: anywhere } .passed { color: #25663a } .failed { color: #b3261e; font-weight: 600 }
pre { white-space: pre-wrap; margin: 0; font-size: 12px } .chart { overflow-x: auto }
"""


def of(report: dict[str, Any]) -> str:
    """`report`: as in report.json."""
    word = "passed" if report["passed"] else "failed"
    requests = report["requests"]
    parts = [
        f"<h1>{_text(report['name'])}: <span class={word}>{word}</span></h1>",
        f"<p>{_text(report['description'])}</p>" if report["description"] else "",
        f"<p>{report['seconds']:.1f} s, seed {report['seed']}, namespace {_text(report['namespace'])}; {requests['count']} requests, "
        f"{requests['failed']} failed; half of the served within {_seconds(requests['p50'])}, 99 % within "
        f"{_seconds(requests['p99'])}</p>",
        "".join(f"<p class=failed>{_text(problem)}</p>" for problem in report["problems"]),
        f"<div class=chart>{_chart(report)}</div>",
        "<h2>Checks</h2>",
        _table(
            ("", "what", "seen"),
            [(_verdict(check["passed"]), _text(check["what"]), _text(check["seen"])) for check in report["checks"]],
        ),
        "<h2>Faults</h2>",
        _table(("fault", "target", "from, to (s)", "outcome", "evidence"), [_fault(fault) for fault in report["faults"]]),
        "<h2>Events</h2>",
        _table(("event", "what", "from, to (s)", "problem"), [_event(event) for event in report["events"]]),
        "<h2>Errors</h2>",
        _table(("requests", "error"), [(str(count), _text(error)) for error, count in requests["errors"].items()]),
    ]
    title = _text(f"{report['name']}: {word}")
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style></head>'
    return f"{head}<body>{''.join(parts)}</body></html>\n"


def _text(value: Any) -> str:
    return html.escape(str(value))


def _seconds(value: Any) -> str:
    return f"{value:.3g} s" if value is not None else "no time known"


def _verdict(passed: bool) -> str:
    return "<span class=passed>passed</span>" if passed else "<span class=failed>failed</span>"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>none</p>"
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + f"</tr>{body}</table>"


def _span(begun: Any, ended: Any) -> str:
    return "not begun" if begun is None else f"{begun:.2f}, {'open' if ended is None else f'{ended:.2f}'}"


def _fault(fault: dict[str, Any]) -> tuple[str, ...]:
    word = "passed" if fault["outcome"] == "effective" else "failed"
    evidence = _text(json.dumps(fault["evidence"], indent=1))
    name = f"{_text(fault['name'])} ({_text(fault['kind'])})"
    outcome = f"<span class={word}>{_text(fault['outcome'])}</span>"
    return name, _text(fault["target"]), _span(fault["begun"], fault["ended"]), outcome, f"<pre>{evidence}</pre>"


def _event(event: dict[str, Any]) -> tuple[str, ...]:
    problem = f"<span class=failed>{_text(event['problem'])}</span>" if event["problem"] else ""
    return _text(event["name"]), _text(event["what"]), _span(event["begun"], event["ended"]), problem


# ---- the chart


def _chart(report: dict[str, Any]) -> str:
    """Requests as bars, faults as bands behind them, below that a row for each node and pod."""
    total = max(report["seconds"], 1e-3)
    rows = _rows(report["states"], total)
    height = _HEIGHT + 30 + _ROW * (len(rows) + len(report["faults"]))

    def x(at: float) -> float:
        return float(_LEFT + (_WIDTH - _LEFT - 10) * min(max(at, 0.0), total) / total)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" aria-label="what happened when">']
    parts += [_band(fault, x, total) for fault in report["faults"]]
    parts += _bars(report["requests"]["series"], x, total)
    parts += _axis(x, total)
    y = _HEIGHT + 30
    for fault in report["faults"]:
        parts.append(_label(fault["name"], y))
        end = fault["ended"] if fault["ended"] is not None else total
        parts.append(_box(x(fault["begun"]), x(end), y, _COLOURS["fault"], f"{fault['name']}: {fault['outcome']}"))
        y += _ROW
    for name, spans in rows:
        parts.append(_label(name, y))
        parts += [_box(x(begin), x(end), y, _colour(state), f"{name}: {state}") for begin, end, state in spans]
        y += _ROW
    return "".join(parts) + "</svg>"


def _band(fault: dict[str, Any], x: Any, total: float) -> str:
    begin, end = x(fault["begun"]), x(fault["ended"] if fault["ended"] is not None else total)
    return (
        f'<rect x="{begin:.1f}" y="0" width="{max(1.0, end - begin):.1f}" height="{_HEIGHT}" '
        f'fill="{_COLOURS["fault"]}" opacity="0.25"/>'
    )


def _bars(series: list[dict[str, Any]], x: Any, total: float) -> list[str]:
    most = max((part["served"] + part["failed"] for part in series), default=0) or 1
    width = series[1]["at"] - series[0]["at"] if len(series) > 1 else total
    parts = [_label(f"requests in {width:g} s (up to {most})", 0)]
    for part in series:
        y = float(_HEIGHT)
        for what in ("failed", "served"):
            tall = (_HEIGHT - 10) * part[what] / most
            y -= tall
            left, right = x(part["at"]), x(part["at"] + width)
            title = f"<title>{part['at']:g} s: {part['served']} served, {part['failed']} failed</title>"
            parts.append(
                f'<rect x="{left:.1f}" y="{y:.1f}" width="{max(0.5, right - left - 0.5):.1f}" height="{tall:.1f}" '
                f'fill="{_COLOURS[what]}">{title}</rect>'
            )
    return parts


def _axis(x: Any, total: float) -> list[str]:
    return [f'<text x="{x(total * n / 6):.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{total * n / 6:.3g} s</text>' for n in range(7)]


def _rows(states: list[dict[str, Any]], total: float) -> list[tuple[str, list[tuple[float, float, str]]]]:
    """Of each node and pod its states with their times."""
    found: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for entry in states:
        found.setdefault((entry["kind"], entry["name"]), []).append((entry["at"], entry["state"]))
    rows = []
    for (_, name), changes in sorted(found.items()):
        ends = [at for at, _ in changes[1:]] + [total]
        rows.append((name, [(at, end, state) for (at, state), end in zip(changes, ends)]))
    return rows


def _colour(state: str) -> str:
    return next((colour for word, colour in _STATES if state.startswith(word)), _OTHER)


def _label(text: str, y: int) -> str:
    return f'<text x="0" y="{y + 14}">{_text(text[-34:])}</text>'


def _box(begin: float, end: float, y: int, colour: str, title: str) -> str:
    return (
        f'<rect x="{begin:.1f}" y="{y + 3}" width="{max(1.5, end - begin):.1f}" height="{_ROW - 6}" fill="{colour}">'
        f"<title>{_text(title)}</title></rect>"
    )
