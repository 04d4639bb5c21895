"""Migrations while others write, and the release before on the schema of this one (PostgreSQL)."""

import re
import threading
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect

from deploy.migrations.online import LARGE
from schemas.errors import StoreUnavailable
from storage import migrations
from storage.database import Database
from tests.servers import new_postgres_database
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

SCRIPTS = ScriptDirectory(str(Path(migrations.__file__).parents[1] / "deploy" / "migrations"))
REVISIONS = [script.revision for script in reversed(list(SCRIPTS.walk_revisions()))]
# Nobody had a store with many rows before these: they belong to the first release.
FIRST_RELEASE = "0009_api"
LATER = REVISIONS[REVISIONS.index(FIRST_RELEASE) + 1 :]


@pytest.fixture
def empty(postgres_url: str) -> Iterator[Database]:
    with new_postgres_database(postgres_url) as url:
        database = Database(url)
        yield database
        database.close()


def statements_of(database: Database, revision: str) -> list[str]:
    """What a migration sends."""
    sent: list[str] = []

    def listen(_c: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", listen)
    try:
        migrations.upgrade(database, revision)
    finally:
        event.remove(database.engine, "before_cursor_execute", listen)
    return sent


def long_lock(statement: str) -> str | None:
    """Why a statement would keep writers of a large table waiting for long, or break the release before; None if it does not."""
    tables = "|".join(sorted(LARGE))
    large = re.search(rf'(?:ON|TABLE|INTO|UPDATE|FROM)\s+"?({tables})"?\b', statement)
    if large is None:
        return None
    rules = {
        r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)": "not built CONCURRENTLY: use deploy.migrations.online.create_index",
        r"ALTER COLUMN \S+ TYPE": "a column's new type copies the table",
        r"SET NOT NULL": "reads the whole table under its lock: first a CHECK that is NOT VALID, then VALIDATE",
        r"ADD COLUMN (?!.*DEFAULT).*NOT NULL": "the release before gives it no value",
        r"ADD (CONSTRAINT|FOREIGN KEY|UNIQUE|CHECK|PRIMARY)(?!.*(NOT VALID|USING INDEX))": "reads the whole table under its lock",
        r"(DROP|RENAME) (COLUMN|TABLE)|RENAME TO": "the release before still uses it",
        r"^\s*(UPDATE|DELETE)": "locks every row: do it in pages, outside of the migration",
        r"DEFAULT (now|clock_timestamp|random|gen_random_uuid|nextval)": "a default that differs by row rewrites the table",
    }
    return next((why for rule, why in rules.items() if re.search(rule, statement, re.IGNORECASE | re.DOTALL)), None)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ix ON audit_result (score)",
        "ALTER TABLE audit_result ALTER COLUMN score TYPE NUMERIC",
        "ALTER TABLE audit_job ADD COLUMN a INTEGER NOT NULL",
        "ALTER TABLE audit_job ADD CONSTRAINT c CHECK (attempts > 0)",
        "ALTER TABLE audit_result DROP COLUMN area",
        "UPDATE audit_result SET area = 0",
        "ALTER TABLE picture ADD COLUMN at TIMESTAMP DEFAULT now()",
        'ALTER TABLE "picture" ALTER COLUMN bytes SET NOT NULL',
    ],
)
def test_what_would_hold_others_up_is_seen(statement: str) -> None:
    assert long_lock(statement) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY ix ON audit_result (score)",
        "ALTER TABLE audit_job ADD COLUMN a INTEGER DEFAULT 0 NOT NULL",
        "ALTER TABLE audit_job ADD COLUMN a INTEGER",
        "CREATE INDEX ix ON review (sha256)",
        "CREATE TABLE t (id INTEGER NOT NULL, PRIMARY KEY (id))",
    ],
)
def test_what_holds_nobody_up_is_let_pass(statement: str) -> None:
    assert long_lock(statement) is None


@pytest.mark.parametrize("revision", LATER)
def test_a_migration_locks_no_large_table_for_long(empty: Database, revision: str) -> None:
    migrations.upgrade(empty, REVISIONS[REVISIONS.index(revision) - 1])
    sent = statements_of(empty, revision)
    assert sent
    assert [(statement, why) for statement in sent if (why := long_lock(statement)) is not None] == []


@pytest.mark.parametrize("revision", LATER)
def test_the_release_before_writes_and_reads_the_new_schema(empty: Database, revision: str) -> None:
    before = REVISIONS[REVISIONS.index(revision) - 1]
    migrations.upgrade(empty, before)
    old = sa.MetaData()
    old.reflect(empty.engine, only=sorted(set(inspect(empty.engine).get_table_names()) - {"alembic_version"}))
    migrations.upgrade(empty, revision)
    for table in old.sorted_tables:
        row = {column.name: _value(column) for column in table.columns if not column.nullable and column.server_default is None}
        with empty.engine.connect() as connection:
            # Without foreign keys and triggers, so that any row will do.
            connection.exec_driver_sql("SET session_replication_role = replica")
            connection.execute(sa.insert(table).values(row))
            (found,) = connection.execute(sa.select(table)).mappings().all()
            assert set(found) == {column.name for column in table.columns}
            assert connection.execute(sa.update(table).values(row)).rowcount == 1
            connection.rollback()


def _value(column: sa.Column[Any]) -> object:
    """Anything of the column's type."""
    if isinstance(column.type, sa.JSON):
        return {}
    kind = column.type.python_type
    given = {bytes: b"x", uuid.UUID: uuid.uuid4(), str: "x", int: 1, float: 0.5, bool: True}
    return given[kind] if kind in given else sa.func.now()


def test_a_table_in_use_is_waited_for_without_holding_anybody_up(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's transaction on audit_job stays open; others write past it while the migration wants to change that table."""
    monkeypatch.setattr(migrations, "LOCK_WAIT_S", 0.1)
    monkeypatch.setattr(migrations, "_PAUSE_S", 0.05)
    migrations.upgrade(empty, "0007_learning_loop")
    tries, wait = [], migrations._run_patiently
    monkeypatch.setattr(migrations, "_run_patiently", lambda *given: (tries.append(1), wait(*given)))
    upgrading = threading.Thread(target=migrations.upgrade, args=(empty,))
    with empty.engine.connect() as holder:
        _insert_job(holder)
        upgrading.start()
        wait_for(lambda: len(tries) > 2, "a third try")
        for _ in range(20):
            with empty.engine.begin() as writer:
                # As long as a request would wait; behind a migration that waits for ever it would be over.
                writer.exec_driver_sql("SET LOCAL statement_timeout = '10s'")
                _insert_job(writer)
        assert upgrading.is_alive()
        holder.commit()
    upgrading.join()
    assert migrations.current_revision(empty) == migrations.head_revision()
    with empty.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM audit_job").scalar() == 21
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"


def _insert_job(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "INSERT INTO audit_job (id, source, queue, profiles, state, attempts, created_at, updated_at)"
        " VALUES (gen_random_uuid(), 'a.jpg', 'default', '[]', 'queued', 0, now(), now())"
    )


def test_a_table_that_is_never_let_go_is_told(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT_S", 0.05)
    monkeypatch.setattr(migrations, "_PAUSE_S", 0.0)
    monkeypatch.setattr(migrations, "_TRIES", 2)
    migrations.upgrade(empty, "0007_learning_loop")
    with empty.engine.connect() as holder:
        _insert_job(holder)
        with pytest.raises(StoreUnavailable, match="lock timeout"):
            migrations.upgrade(empty)
    assert migrations.current_revision(empty) == "0007_learning_loop"


def test_revisions_are_a_line() -> None:
    assert [SCRIPTS.get_revision(later).down_revision for _, later in pairwise(REVISIONS)] == REVISIONS[:-1]
