"""The report of a search as one HTML file that needs no network: head, figures, table of trials."""

import html
import re

from plotly.offline import get_plotlyjs

from cluster.search_plots import Section, sections
from cluster.search_style import BEST, FONT, HAND_SET, INK, STATUS_COLOURS
from cluster.search_words import (
    METRIC_NAMES,
    changes_in_words,
    counted,
    cut,
    one_line,
    oracle_mark,
    short_names,
    show_value,
)
from cluster.trials import Search, Trial

# Whatever stands in it, the page loads nothing. Parallel coordinates compile their own code.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data: blob:; form-action 'none'; base-uri 'none'"
)

_REASON_WIDTH = 140  # the whole is under the pointer, and in results.csv

_STYLE = f"""
body {{ margin: 0; background: #f3f5f7; color: {INK}; font: 15px/1.5 {FONT}; }}
main {{ max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px; }}
h1 {{ font-size: 26px; margin: 0 0 4px; }}
h2 {{ font-size: 18px; margin: 0 0 2px; }}
p {{ margin: 0 0 8px; color: #52606d; max-width: 90ch; }}
.question {{ font-size: 17px; color: {INK}; }}
.oracle {{ background: #fff1d6; border-left: 5px solid #d98200; color: #6b4200; font-weight: 600;
  padding: 8px 14px; margin: 14px 0; border-radius: 4px; max-width: none; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 12px; margin: 18px 0; }}
.card, section {{ background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; }}
.card {{ padding: 10px 16px; min-width: 84px; }}
.card b {{ display: block; font-size: 22px; font-weight: 600; }}
.card span {{ color: #6b7785; font-size: 13px; }}
section {{ padding: 16px 18px; margin: 16px 0; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; width: 100%;
  font-variant-numeric: tabular-nums; }}
th, td {{ padding: 5px 9px; text-align: right; border-bottom: 1px solid #e6eaee;
  white-space: nowrap; }}
th {{ cursor: pointer; color: #52606d; vertical-align: bottom; }}
th:hover {{ color: {INK}; }}
td.text, th.text {{ text-align: left; }}
.reason {{ white-space: normal; width: 210px; overflow-wrap: anywhere; color: #6b7785;
  font-size: 12px; line-height: 1.3; margin-top: 3px; }}
tr.best td {{ background: #e8f6f0; }}
tr.hand-set td {{ background: #f3ecfb; }}
.badge {{ color: #fff; border-radius: 9px; padding: 1px 8px; font-size: 12px; }}
.badge.best {{ background: {BEST}; }}
.badge.hand-set {{ background: {HAND_SET}; }}
""" + "".join(
    f".badge.{status} {{ background: {colour}; }}\n" for status, colour in STATUS_COLOURS.items()
)

_SCRIPT = """
// Plotly's own button to share a chart would upload the data.
const config = {responsive: true, displaylogo: false, showSendToCloud: false,
  plotlyServerURL: "", modeBarButtonsToRemove: ["select2d", "lasso2d"]};
for (const [id, figure] of Object.entries(figures)) {
  Plotly.newPlot(id, figure.data, figure.layout, config);
}
for (const head of document.querySelectorAll("th")) {
  head.addEventListener("click", () => {
    const place = head.cellIndex, body = head.closest("table").tBodies[0];
    const falling = head.dataset.order !== "falling";
    const key = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
    const compare = (a, b) => a !== "" && b !== "" && !isNaN(a) && !isNaN(b)
      ? a - b : a.localeCompare(b);
    const rows = [...body.rows].sort((a, b) => compare(key(a), key(b)) * (falling ? -1 : 1));
    head.dataset.order = falling ? "falling" : "rising";
    body.append(...rows);
  });
}
"""


def page(search: Search) -> str:
    """The whole report as HTML."""
    parts = sections(search)
    title = f"Search {search.space} on {search.preset}"
    figures = ",\n".join(
        f'"figure-{number}": {_in_script(part.figure.to_json())}'
        for number, part in enumerate(parts)
        if part.figure is not None
    )
    body = "\n".join(
        [_head(search), *(_section(part, number) for number, part in enumerate(parts))]
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<script>{get_plotlyjs()}</script>\n</head>\n"
        f"<body>\n<main>\n{body}\n{_table(search)}\n</main>\n"
        f"<script>\nconst figures = {{\n{figures}\n}};\n{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _head(search: Search) -> str:
    mark = oracle_mark(search)
    cards: list[tuple[str, str]] = [
        (str(count), status) for status, count in search.num_by_status.items()
    ]
    metric = METRIC_NAMES[search.metric]
    best, hand_set = search.best, search.hand_set
    value = best.value(search.metric) if best else None
    by_hand = hand_set.value(search.metric) if hand_set else None
    if best is not None and value is not None:
        cards.append((f"{value:.4f}", f"best {metric}, trial {best.number}"))
    if by_hand is not None:
        cards.append((f"{by_hand:.4f}", "hand-set preset"))
    if value is not None and by_hand is not None and best is not hand_set:
        cards.append((f"{value - by_hand:+.4f}", "best against hand-set"))
    shown = "".join(
        f'<div class="card"><b>{_text(number)}</b><span>{_text(what)}</span></div>'
        for number, what in cards
    )
    about = (
        f"Preset {search.preset} ({search.config_digest}), {search.steps} steps a trial, chosen by "
        f"{metric}. {counted(search)}."
    )
    changes = f"Best: {changes_in_words(search, best)}." if best else ""
    return (
        f"<h1>{_text(search.space)}</h1>\n"
        f'<p class="question">{_text(search.question)}</p>\n<p>{_text(about)}</p>\n'
        + (f'<p class="oracle">{_text(mark)}</p>\n' if mark else "")
        + f'<div class="cards">{shown}</div>\n'
        + (f"<p>{_text(changes)}</p>" if changes else "")
    )


def _section(section: Section, number: int) -> str:
    chart = "" if section.figure is None else f'<div id="figure-{number}"></div>'
    return (
        f"<section>\n<h2>{_text(section.title)}</h2>\n<p>{_text(section.text)}</p>\n{chart}\n"
        "</section>"
    )


def _table(search: Search) -> str:
    """The best first, those without a value last."""

    def rank(trial: Trial) -> tuple[bool, float, int]:
        value = trial.value(search.metric)
        return (value is None, -(value or 0.0), trial.number)

    names = short_names(search.paths)
    oracle = ["oracle mIoU"] if search.allow_oracle else []
    heads = ["quality", *oracle, "step", *names.values(), "minutes"]
    head = '<th>trial</th><th class="text">status</th>'
    head += "".join(f"<th>{_breakable(name)}</th>" for name in heads)
    head += '<th class="text">folder</th>'
    rows = "\n".join(_row(search, trial) for trial in sorted(search.trials, key=rank))
    return (
        "<section>\n<h2>Trials</h2>\n<p>Click a head to sort by it.</p>\n"
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        "</table></div>\n</section>"
    )


def _row(search: Search, trial: Trial) -> str:
    is_best, is_hand_set = trial is search.best, trial is search.hand_set
    badges = "".join(
        [
            f'<span class="badge {trial.status}">{trial.status}</span>',
            ' <span class="badge best">best</span>' if is_best else "",
            ' <span class="badge hand-set">hand-set</span>' if is_hand_set else "",
        ]
    )
    retried = f"tried {trial.retries + 1} times. " if trial.retries else ""
    if said := retried + one_line(trial.reason):
        badges += (
            f'<div class="reason" title="{_text(said)}">{_text(cut(said, _REASON_WIDTH))}</div>'
        )
    values = search.values_of(trial)
    cells = [f"<td>{trial.number}</td>", f'<td class="text">{badges}</td>']
    cells.append(_number(trial.value("quality")))
    if search.allow_oracle:
        cells.append(_number(trial.value("oracle:miou")))
    cells.append(f'<td data-value="{trial.step}">{trial.step}/{search.steps}</td>')
    for path in search.paths:
        value = values.get(path)
        shown = "" if value is None else _text(show_value(value))
        cells.append(f'<td data-value="{"" if value is None else _text(str(value))}">{shown}</td>')
    cells.append(f"<td>{trial.minutes:.1f}</td>")
    cells.append(f'<td class="text">{_text(trial.folder)}</td>')
    kind = ' class="best"' if is_best else ' class="hand-set"' if is_hand_set else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _number(value: float | None) -> str:
    return "<td></td>" if value is None else f'<td data-value="{value}">{value:.4f}</td>'


def _breakable(name: str) -> str:
    """A long name may be broken at its dots."""
    return _text(name).replace(".", ".<wbr>")


def _text(text: str) -> str:
    return html.escape(one_line(text))


def _in_script(json: str) -> str:
    """JSON that a browser can take for nothing else, wherever it stands."""
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", json)
