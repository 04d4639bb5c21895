"""Results as they come in: what `tamperwatch results --follow` prints until it is told to stop."""

from collections.abc import Callable
from dataclasses import dataclass

from rich.text import Text

from cli.console import VERDICT_STYLE
from cli.patience import pause, read_patiently
from schemas.records import AuditRecord
from schemas.states import Verdict
from storage import feed, queries
from storage.audit_records import record_of
from storage.database import Database
from web.wording import shown

POLL_S = 0.5
_PAGE = 200


@dataclass(frozen=True)
class Wanted:
    """Which results a person asked for; what is None filters nothing."""

    verdict: Verdict | None = None
    source_profile: str | None = None


def follow(
    database: Database,
    since: int | None,
    wanted: Wanted,
    show: Callable[[AuditRecord], None],
    stopped: Callable[[], bool],
) -> int:
    """Show each result once, in order, until a person stops it. A store that goes away is waited for.

    Args:
        since: the cursor to begin after; None begins with what is stored from now on.
        wanted: which results.
        show: prints one record.

    Returns:
        The cursor to go on from.
    """
    if since is None:
        since = read_patiently(lambda: _newest(database), stopped)
    cursor = since or 0
    while not stopped():
        page = read_patiently(lambda after=cursor: _page(database, after, wanted), stopped)  # type: ignore[misc]
        for number, record in page or ():
            show(record)
            cursor = number
        if not page:
            pause(POLL_S, stopped)
    return cursor


def line_of(record: AuditRecord) -> Text:
    """A record as one line of a table that never ends: verdict, score, area, picture."""
    if record.verdict is None or record.score is None or record.area is None:
        raise ValueError(f"{record.image}: a done record carries a verdict, a score and an area")
    verdict = Text(f"{record.verdict.value:<7}", VERDICT_STYLE[record.verdict.value])
    return Text.assemble(verdict, f"{record.score:5.2f}  {record.area:6.1%}  {shown(record.image)}")


HEADING = Text(f"{'verdict':<7}{'score':>5}  {'area':>6}  picture", "bold")


def _newest(database: Database) -> int:
    with database.read() as session:
        return feed.newest_result(session)


def _page(database: Database, after: int, wanted: Wanted) -> list[tuple[int, AuditRecord]]:
    with database.read() as session:
        audited = queries.read_results(session, after, _PAGE, wanted.verdict, source_profile=wanted.source_profile)
        return [(each.own.id or 0, record_of(each)) for each in audited if each.own]
