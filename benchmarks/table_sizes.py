"""What results cost on PostgreSQL's disk, and how fast they go in. `benchmarks.hot_queries` prints it."""

import random
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import MetaData, func, text
from sqlmodel import col, select

from benchmarks.generated_rows import VERSIONS
from schemas.states import Verdict
from schemas.tables import AuditJob, AuditResult
from storage import jobs
from storage.database import Database

_MB = 1e6
_REAL_ROWS = 100_000
_SECONDS = 15.0
_TABLES = ("picture", "audit_job", "audit_result")


def sizes(database: Database, count: int) -> Iterator[str]:
    """Each table and each index, in MB a million rows."""
    millions = count / 1e6
    query = """
        SELECT c.relname, CASE WHEN c.relkind = 'r' THEN pg_table_size(c.oid) ELSE pg_relation_size(c.oid) END, c.relkind
        FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
        WHERE coalesce(i.indrelid, c.oid) = CAST(:table AS regclass) ORDER BY c.relkind DESC, 2 DESC
    """
    for table in _TABLES:
        with database.engine.connect() as connection:
            rows = connection.execute(text(query), {"table": table}).all()
        indexes = sum(size for _, size, kind in rows if kind == "i")
        yield f"{table}: {rows[0][1] / _MB / millions:.0f} MB of rows and {indexes / _MB / millions:.0f} MB of indexes a million"
        yield from (f"  {name}: {size / _MB / millions:.0f} MB a million" for name, size, kind in rows if kind == "i")


def insert_rates(database: Database) -> Iterator[str]:
    """Whole lives of jobs on one connection: submitted, claimed, settled; a commit for each step of a batch."""
    for batch in (16, 100):
        done, started = 0, time.monotonic()
        while time.monotonic() - started < _SECONDS:
            _live(database, batch)
            done += batch
        rate = done / (time.monotonic() - started)
        yield f"insert: {rate:.0f} jobs/s with picture, job and result on one connection, {batch} a commit, fsync off"


def _live(database: Database, count: int) -> None:
    names = [uuid.uuid4().hex for _ in range(count)]
    new = [jobs.NewJob(f"{name}.jpg", name * 2, 200_000, f"rate-{name}", "rate") for name in names]
    with database.write() as session:
        added = jobs.add_jobs(session, new)
    from workers.sweeper import message_of

    with database.write() as session:
        claims = jobs.claim_jobs(session, [message_of(job) for job in added])
    ended = [
        jobs.Finished(job.id, claim.fence, [_result(job.id)])
        for job, claim in zip(added, claims, strict=True)
        if isinstance(claim, jobs.Claim)
    ]
    with database.write() as session:
        jobs.finish_jobs(session, ended)


def _result(job_id: uuid.UUID) -> AuditResult:
    values = {"score": 0.5, "verdict": Verdict.PASS, "area": 0.1, "mask_png": random.randbytes(200), "latency_ms": 80}
    return AuditResult(job_id=job_id, model_version=VERSIONS[2], width_px=1200, height_px=900, **values)


def real_sizes(database: Database, store: Path, rows: int = _REAL_ROWS) -> Iterator[str]:
    """So many rows, a multiple of 1000, whose masks and regions are those of a real store, drawn with replacement."""
    real = Database(f"sqlite:///{store}")
    with real.read() as session:
        columns = select(AuditResult.mask_png, AuditResult.regions).order_by(col(AuditResult.id))
        # Purged masks say nothing of how large they were.
        found = [(bytes(mask), regions) for mask, regions in session.exec(columns) if mask]
        pictures = session.exec(select(func.count(col(AuditJob.sha256).distinct()))).one()
    real.close()
    if not found:
        raise SystemExit(f"{store} holds no result with a mask")
    lengths = sorted(len(mask) for mask, _ in found)
    yield (
        f"{len(found):,} real results of {pictures:,} pictures, {len({mask for mask, _ in found}):,} masks distinct: "
        f"{sum(lengths) / len(lengths):.0f} bytes on average, half of them below {lengths[len(lengths) // 2]}, "
        f"the largest {lengths[-1]}"
    )
    rng = random.Random(1)
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE real_size (LIKE audit_result INCLUDING DEFAULTS INCLUDING STORAGE)"))
        statement = AuditResult.__table__.to_metadata(MetaData(), name="real_size").insert()  # type: ignore[attr-defined]
        for _ in range(rows // 1000):
            drawn = rng.choices(found, k=1000)
            made = [_result(uuid.uuid4()).model_dump() | {"mask_png": mask, "regions": regions} for mask, regions in drawn]
            connection.execute(statement, [row | {"id": number} for number, row in enumerate(made)])
        size = connection.execute(text("SELECT pg_total_relation_size('real_size')")).scalar_one()
        connection.execute(text("DROP TABLE real_size"))
    each = size / rows
    yield f"{rows:,} rows drawn from these with replacement: a million take {each * 1e6 / _MB:.0f} MB without indexes"
