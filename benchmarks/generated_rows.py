"""Millions of jobs and results, made inside PostgreSQL, as a store looks after some months.

Of the results nine in ten pass, their masks are 200 bytes (rows this small PostgreSQL does not compress), and three model
versions made them over 90 days. A hundred thousand jobs wait, a few hundred are in hand, one in a hundred has failed. What
people have decided about the others is in `generated_reviews`.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.schema import CreateIndex
from sqlmodel import SQLModel

from benchmarks.generated_reviews import DECIDED, add_people
from storage.database import Database

MASK_BYTES = 200
VERSIONS = ("student-1", "student-2", "student-3")
WAITING = 100_000
RUNNING = 300
_DAYS = 90
_SUBMISSION = 10_000
_TABLES = ("picture", "audit_job", "audit_result")

# The n-th row is a pure function of n: its picture, its id and its time can be named again without looking.
_PICTURE = """
INSERT INTO picture (sha256, bytes, first_seen_at)
SELECT md5(n::text) || md5((-n)::text), 200000, now() - interval '{days} days' * (1 - n / {count}.0)
FROM generate_series({first}, {last}) n
"""
_JOB = """
INSERT INTO audit_job (id, client_ref, submission, source, sha256, queue, profiles, source_profile, state, attempts, retries,
  fence, claimed_at, error_code, error_message, created_at, updated_at, finished_at)
SELECT md5('job ' || n)::uuid, 'upload-' || n, 'submission-' || n / {submission},
  'uploads/2026/' || n % 1000 || '/' || n || '.jpg',
  md5(n::text) || md5((-n)::text), (ARRAY['high', 'default', 'default', 'bulk'])[1 + n % 4], '[]',
  (ARRAY[NULL, 'wechat', 'facebook'])[1 + n % 3], CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'done' END, 1, 0, 1, NULL,
  CASE WHEN n % 100 = 0 THEN 'decode_failed' END, CASE WHEN n % 100 = 0 THEN 'truncated' END, at, at, at
FROM (SELECT n, now() - interval '{days} days' * (1 - n / {count}.0) AS at FROM generate_series({first}, {last}) n) made
"""
_RESULT = """
INSERT INTO audit_result (job_id, model_version, profile, score, verdict, second_score, stable, area, regions, mask_png,
  mask_agreement, width_px, height_px, latency_ms, reused_from, undecided, created_at)
SELECT md5('job ' || n)::uuid, (ARRAY['{versions}'])[1 + n * 3 / ({count} + 1)], 'none', score,
  CASE WHEN score > 0.97 THEN 'flag' WHEN score > 0.9 THEN 'review' ELSE 'pass' END, NULL, NULL, score / 10,
  CASE WHEN score > 0.9 THEN '[{{"box": {{"x0": 10, "y0": 20, "x1": 300, "y1": 400}}, "score": 0.93}}]' ELSE '[]' END::json,
  substr(decode(repeat(md5(n::text), {mask} / 16 + 1), 'hex'), 1, {mask}),
  1, 1200, 900, 80, NULL, NOT ({decided}), now() - interval '{days} days' * (1 - n / {count}.0)
FROM (SELECT n, abs(hashint4(n)) / 2147483648.0 AS score FROM generate_series({first}, {last}) n WHERE n % 100 <> 0) made
"""
_UNFINISHED = """
INSERT INTO audit_job (id, client_ref, submission, source, sha256, queue, profiles, state, attempts, retries, fence, claimed_at,
  created_at, updated_at)
SELECT md5('waiting ' || n)::uuid, 'waiting-' || n, 'now', n || '.jpg', md5('w' || n) || md5('w' || -n),
  (ARRAY['high', 'default', 'default', 'bulk'])[1 + n % 4], '[]', CASE WHEN n <= {running} THEN 'running' ELSE 'queued' END,
  CASE WHEN n <= {running} THEN 1 ELSE 0 END, 0, CASE WHEN n <= {running} THEN 1 ELSE 0 END,
  CASE WHEN n <= {running} THEN now() END, now(), now() FROM generate_series(1, {count}) n
"""


# Primary keys before what refers to them, from other tables too.
_KEYS = """
SELECT c.conname, c.contype, r.relname, pg_get_constraintdef(c.oid) AS told
FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid LEFT JOIN pg_class to_table ON to_table.oid = c.confrelid
WHERE (r.relname = ANY(:tables) AND c.contype IN ('p', 'u', 'f')) OR to_table.relname = ANY(:tables)
ORDER BY position(c.contype in 'puf')
"""


@dataclass(frozen=True)
class Filled:
    """How long it took to make the rows in tables without any index, and then each constraint and index."""

    rows_s: float
    indexes_s: dict[str, float]


def fill(database: Database, count: int) -> Filled:
    """Make `count` ended jobs with all that became of them, and jobs that wait, in an empty migrated PostgreSQL database."""
    indexes = [index for name in _TABLES for index in SQLModel.metadata.tables[name].indexes]
    with database.engine.begin() as connection:
        keys = connection.execute(text(_KEYS), {"tables": list(_TABLES)}).all()
        # Foreign keys first: they lean on the others.
        for key in sorted(keys, key=lambda key: key.contype != "f"):
            connection.execute(text(f'ALTER TABLE {key.relname} DROP CONSTRAINT "{key.conname}"'))
        for index in indexes:
            connection.execute(text(f'DROP INDEX "{index.name}"'))
    started = time.monotonic()
    _fill_rows(database, count)
    rows_s = time.monotonic() - started
    made = {key.conname: f'ALTER TABLE {key.relname} ADD CONSTRAINT "{key.conname}" {key.told}' for key in keys}
    made |= {str(index.name): str(CreateIndex(index).compile(database.engine)) for index in indexes}
    took = {name: _timed(database, statement) for name, statement in made.items()}
    add_people(database, VERSIONS)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    return Filled(rows_s, took)


def _fill_rows(database: Database, count: int) -> None:
    """Each table on a connection of its own, at once."""
    versions = "','".join(VERSIONS)
    values = {"days": _DAYS, "count": count, "submission": _SUBMISSION, "versions": versions, "running": RUNNING}

    def fill_table(statement: str) -> None:
        for first in range(1, count + 1, 500_000):
            part = values | {"first": first, "last": min(first + 499_999, count), "mask": MASK_BYTES}
            part["decided"] = DECIDED.format(count=count)
            _execute(database, statement.format(**part))

    with ThreadPoolExecutor(len(_TABLES)) as pool:
        list(pool.map(fill_table, (_PICTURE, _JOB, _RESULT)))
    _execute(database, _UNFINISHED.format(**values | {"count": min(WAITING, count)}))


def _execute(database: Database, statement: str) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))


def _timed(database: Database, statement: str) -> float:
    started = time.monotonic()
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        connection.exec_driver_sql(statement)
    return time.monotonic() - started
