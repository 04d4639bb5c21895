"""Plan and time of every query that runs often, at millions of results on PostgreSQL; sizes and insert rate beside them.

    python -m benchmarks.hot_queries --results 5000000 --plans plans.txt
    python -m benchmarks.hot_queries --results 1000 --fill-only --real out/.tamperwatch/tamperwatch.db

The functions of `storage` and of the pages themselves are called; the statements they send are listened to, timed, and the
slowest of each function is explained by PostgreSQL. What changes rows is rolled back. With `--real`, rows of any store of ours
(such as `tamperwatch audit` leaves) say what a million results need with masks as the student really writes them.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from benchmarks.generated_rows import VERSIONS, WAITING, fill
from benchmarks.page_queries import page_queries
from benchmarks.stream_queries import Query, stream_queries
from benchmarks.table_sizes import insert_rates, real_sizes, sizes
from schemas.settings import BlobSettings
from schemas.tables import AuditResult, now
from storage import migrations, retention
from storage.blobs import open_blob_store
from storage.database import Database
from tests.local_servers import local_postgres

_ROUNDS = 5
# What anybody would give a server with so many rows; fsync is off, as in the tests.
_SERVER = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "effective_cache_size": "4GB",
    "random_page_cost": "1.1",
    "work_mem": "16MB",
}
_SLOW_MS = 100.0
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Measured:
    """One function of `storage`: how long its statements take together; of the slowest, its plan and the blocks it touched.

    Attributes:
        found: whether there was anything; what finds nothing has little to do.
    """

    name: str
    milliseconds: float
    statements: int
    blocks: int
    nodes: list[str]
    plan: str
    found: bool = True

    @property
    def reads_a_table(self) -> bool:
        """Whether a large table is read from end to end."""
        return any("Seq Scan on audit" in node or "Seq Scan on picture" in node for node in self.nodes)


def hot_queries(database: Database, count: int) -> dict[str, Query]:
    """Everything that runs often, by what it is for, over so many generated results."""
    return stream_queries(database, count) | page_queries(database, VERSIONS)


def measure(database: Database, name: str, query: Query) -> Measured:
    """Call a function a few times, each time rolled back, and let PostgreSQL explain its slowest statement."""
    times: list[float] = []
    slowest: tuple[float, str, Any] = (0.0, "", None)
    statements, answer = 0, None
    for _ in range(_ROUNDS):
        with _rolled_back(database) as session, _heard(database) as heard:
            try:
                answer = query(session)
                # What waits for the end is sent too, such as the log's entries; the connection's own transaction stays open.
                session.commit()
            except OperationalError:
                return Measured(name, 1000 * _PATIENCE_S, len(heard), 0, ["given up after that"], "")
        times.append(sum(took for took, _, _ in heard))
        statements = len(heard)
        # A savepoint has no plan, however long it took.
        slowest = max(slowest, *(each for each in heard if "SAVEPOINT" not in each[1]), key=lambda each: each[0])
        if times[-1] > 5:
            break
    nodes, plan = _explained(database, *slowest[1:])
    touched = re.search(r"Buffers: shared ([^\n]*)", plan)
    blocks = sum(int(number) for number in re.findall(r"(?:hit|read)=(\d+)", touched[1])) if touched else 0
    found = answer is not None and not (isinstance(answer, Sized) and len(answer) == 0)
    return Measured(name, 1000 * statistics.median(times), statements, blocks, nodes, plan, found)


def purge_rate(database: Database) -> str:
    """What `purge --rows` deletes in a minute of what ended first, for good: the pictures' rows go before their jobs'."""
    selection = retention.Selection(up_to=retention.older_than(now() - timedelta(days=89)))
    gone: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        blobs = open_blob_store(BlobSettings(directory=Path(folder)))
        started = time.monotonic()
        for kind, count in retention.purge(database, blobs, selection, frozenset({retention.Purged.ROWS})):
            gone[kind.value] += count
            if time.monotonic() - started > _PATIENCE_S:
                break
    return f"purge --rows: {dict(gone)} in {time.monotonic() - started:.0f} s"


@contextmanager
def _rolled_back(database: Database) -> Iterator[Session]:
    with database.engine.connect() as connection, Session(connection) as session:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{_PATIENCE_S:g}s'")
        yield session
        connection.rollback()


@contextmanager
def _heard(database: Database) -> Iterator[list[tuple[float, str, Any]]]:
    """Every statement sent meanwhile: seconds, text, parameters."""
    heard: list[tuple[float, str, Any]] = []
    begun: list[float] = []

    def before(*_: object) -> None:
        begun.append(time.perf_counter())

    def after(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        heard.append((time.perf_counter() - begun.pop(), statement, None if many else parameters))

    event.listen(database.engine, "before_cursor_execute", before)
    event.listen(database.engine, "after_cursor_execute", after)
    try:
        yield heard
    finally:
        event.remove(database.engine, "before_cursor_execute", before)
        event.remove(database.engine, "after_cursor_execute", after)


def _explained(database: Database, statement: str, parameters: Any) -> tuple[list[str], str]:
    """The plan as PostgreSQL carried it out, and its scans in short."""
    with database.engine.connect() as connection:
        try:
            explain = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " if parameters is not None else "EXPLAIN (COSTS OFF) "
            if parameters is None:
                return [], "many rows at once; not explained"
            lines = [row[0] for row in connection.exec_driver_sql(explain + statement, parameters)]
        finally:
            connection.rollback()
    scans = [line.strip().removeprefix("->").strip().partition(" (")[0] for line in lines if " Scan" in line]
    return list(dict.fromkeys(scans)), "\n".join(lines)


def main() -> None:
    """Fill a database, measure, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=int, default=5_000_000)
    parser.add_argument("--database", help="an empty PostgreSQL database of your own, or one that an earlier run has filled")
    parser.add_argument("--only", default="", help="measure the queries whose names begin so")
    parser.add_argument("--fill-only", action="store_true", help="measure later, with --database")
    parser.add_argument("--real", type=Path, help="a SQLite store of ours whose results say how large real ones are")
    parser.add_argument("--plans", type=Path, help="where the whole plans go")
    given = parser.parse_args()
    with nullcontext(given.database) if given.database else local_postgres(**_SERVER) as url:
        database = Database(url)
        migrations.upgrade(database)
        _fill(database, given.results)
        if not given.fill_only:
            _measure(database, given.results, given.plans, given.only)
        if given.real:
            print(*real_sizes(database, given.real), sep="\n")
        database.close()


def _fill(database: Database, results: int) -> None:
    with database.read() as session:
        filled_before = session.exec(select(AuditResult.id).limit(1)).first() is not None
    if not filled_before:
        filled = fill(database, results)
        print(f"{results:,} ended jobs and {WAITING:,} unfinished ones: made in {filled.rows_s:.0f} s, before their indexes")
        print(*(f"  {name} built in {took:.1f} s" for name, took in filled.indexes_s.items()), sep="\n", flush=True)


def _measure(database: Database, results: int, plans: Path | None, only: str) -> None:
    print(*sizes(database, results), sep="\n")
    print("milliseconds, statements and, of the slowest, 8 kB blocks touched", flush=True)
    wanted = {name: query for name, query in hot_queries(database, results).items() if name.startswith(only)}
    measured = [_told(measure(database, name, query)) for name, query in wanted.items()]
    if plans:
        shown = (f"== {each.name}: {each.milliseconds:.1f} ms\n{each.plan}" for each in measured)
        plans.write_text("\n\n".join(shown), encoding="utf-8")
    print(*insert_rates(database), sep="\n")
    print(purge_rate(database), flush=True)


def _told(measured: Measured) -> Measured:
    slow = "  <-- slow" if measured.milliseconds > _SLOW_MS else ""
    mark = "  <-- reads a whole table" if measured.reads_a_table else slow
    mark += "" if measured.found else "  (found nothing)"
    numbers = f"{measured.milliseconds:9.1f} {measured.statements:4} {measured.blocks:8,}"
    print(f"{numbers}  {measured.name}: {'; '.join(measured.nodes)}{mark}", flush=True)
    return measured


if __name__ == "__main__":
    main()
