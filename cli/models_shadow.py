"""`tamperwatch models shadow`: what a candidate said of live traffic, beside what the live version said."""

from collections.abc import Sequence
from contextlib import closing
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from cli.console import VERDICT_STYLE, load_settings, stderr, stdout
from cli.store import open_store
from schemas.learning_tables import ShadowScore
from schemas.states import Verdict
from storage import pictures, registry, shadow_scores
from storage.shadow_scores import ShadowSummary
from web.wording import shown

_PERCENTILES = (5, 25, 50, 75, 95)
_BAR_WIDTH = 40
_EDGES = (-1.0, -0.5, -0.2, -0.1, -0.02, 0.02, 0.1, 0.2, 0.5, 1.0)


def shadow(
    version: Annotated[str, typer.Argument(help="The candidate.")],
    pictures_shown: Annotated[int, typer.Option("--pictures", min=0, max=10_000, help="Most changed pictures to list.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show how a candidate's answers differ from the live version's on the same pictures.

    Workers score pictures with it while TAMPERWATCH_WORKER__SHADOW_VERSION names it, after they have answered.

    \b
    Examples:
      tamperwatch models shadow student-3-1f0c9a77
      tamperwatch models shadow student-3-1f0c9a77 --json
    """
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        registry.get(session, version)
        rows = shadow_scores.shadow_scores(session, version)
        most = shadow_scores.most_changed(rows, pictures_shown)
        names = pictures.names_of(session, [row.sha256 for row in most])
    summary = shadow_scores.summarised(rows)
    if summary is None:
        stderr.print(
            "no picture yet; start workers with TAMPERWATCH_WORKER__SHADOW_VERSION set to this version, or to candidate",
            highlight=False,
            soft_wrap=True,
        )
    elif as_json:
        stdout.print_json(data=_json(summary, most, names))
    else:
        _show(summary, most, names)


def difference_bins(differences: Sequence[float]) -> list[tuple[float, float, int]]:
    """(from, to, how many) of score differences, in bins that are finer around 0."""
    counts, _ = np.histogram(differences, bins=_EDGES)
    return [(low, high, int(count)) for low, high, count in zip(_EDGES, _EDGES[1:], counts, strict=False)]


def _show(summary: ShadowSummary, most: Sequence[ShadowScore], names: dict[str, str]) -> None:
    beside = shown(", ".join(summary.live_versions))
    stdout.print(
        Text(
            f"{summary.pictures} pictures beside {beside}: {summary.same_verdict:.1%} have the same verdict, "
            f"masks overlap by {summary.mean_agreement:.1%} on average (IoU)"
        )
    )
    stdout.print()
    stdout.print(_changes(summary.changes))
    stdout.print()
    _show_differences(summary.differences)
    if most:
        stdout.print()
        stdout.print(_pictures(most, names))


def _changes(changes: dict[tuple[Verdict, Verdict], int]) -> Table:
    table = Table(
        title="live verdict (rows), candidate's (columns)",
        title_justify="left",
        box=None,
        header_style="bold",
        padding=(0, 2, 0, 0),
    )
    table.add_column("")
    for verdict in Verdict:
        table.add_column(verdict.value, justify="right")
    for live in Verdict:
        cells = [Text(str(changes.get((live, ours), 0)), "" if live is ours else "bold") for ours in Verdict]
        table.add_row(Text(live.value, VERDICT_STYLE[live.value]), *cells)
    return table


def _show_differences(differences: Sequence[float]) -> None:
    table = Table(
        title="candidate's score minus live score", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    bins = difference_bins(differences)
    most = max(count for *_, count in bins)
    for low, high, count in bins:
        bar = "█" * round(_BAR_WIDTH * count / most) if most else ""
        table.add_row(f"{low:+.2f} to {high:+.2f}", str(count), Text(bar, "cyan"))
    stdout.print(table)
    told = ", ".join(f"{percentile} %: {np.percentile(differences, percentile):+.3f}" for percentile in _PERCENTILES)
    stdout.print(f"percentiles {told}", highlight=False)


def _pictures(most: Sequence[ShadowScore], names: dict[str, str]) -> Table:
    table = Table(title="changed most", title_justify="left", box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("verdict", "score", "same mask"):
        table.add_column(title, no_wrap=True)
    table.add_column("picture", overflow="fold")
    for row in most:
        verdict = Text.assemble(
            (row.live_verdict.value, VERDICT_STYLE[row.live_verdict.value]),
            " → ",
            (row.candidate_verdict.value, VERDICT_STYLE[row.candidate_verdict.value]),
        )
        scores = f"{row.live_score:.2f} → {row.candidate_score:.2f}"
        table.add_row(verdict, scores, f"{row.mask_agreement:.0%}", Text(shown(names.get(row.sha256, row.sha256))))
    return table


def _json(summary: ShadowSummary, most: Sequence[ShadowScore], names: dict[str, str]) -> dict[str, Any]:
    return {
        "pictures": summary.pictures,
        "live_versions": list(summary.live_versions),
        "same_verdict": summary.same_verdict,
        "mean_mask_agreement": summary.mean_agreement,
        "verdict_changes": [
            {"live": live.value, "candidate": candidate.value, "pictures": count}
            for (live, candidate), count in sorted(summary.changes.items())
        ],
        "score_difference": {f"p{each}": float(np.percentile(summary.differences, each)) for each in _PERCENTILES},
        "most_changed": [row.model_dump(mode="json") | {"picture": names.get(row.sha256)} for row in most],
    }
