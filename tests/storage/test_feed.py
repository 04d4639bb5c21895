"""Reading by id while writers commit in another order than they began, on a real PostgreSQL and on SQLite."""

import random
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import Session, col, delete, select

from schemas.errors import StoreUnavailable
from schemas.tables import AuditJob, AuditResult
from storage import feed, jobs, queries
from storage.database import Database
from storage.jobs import NewJob

MakeJob = Callable[..., NewJob]
MakeResult = Callable[..., AuditResult]
Step = tuple[str, int]
WRITERS = 3
OUT_OF_ORDER: list[Step] = [("insert", 0), ("insert", 1), ("commit", 1), ("read", 1), ("commit", 0)]


@pytest.fixture
def postgres(migrated_postgres_url: str) -> Iterator[Database]:
    database = Database(migrated_postgres_url)
    yield database
    database.close()


@pytest.fixture
def insert(new_job: MakeJob, new_result: MakeResult) -> Callable[[Session], int]:
    """Insert one result, of a job of its own, into an open transaction; returns its id."""

    def inserted(session: Session) -> int:
        (job,) = jobs.add_jobs(session, [new_job(uuid.uuid4().hex, sha256=None)])
        session.add(result := new_result(job.id))
        session.flush()
        assert result.id is not None
        return result.id

    return inserted


def read(database: Database, after: int, limit: int = 100, patience_s: float = feed.PATIENCE_S) -> list[int]:
    with database.read() as session:
        page = queries.read_results(session, after, limit, patience_s=patience_s)
        return [audited.own.id for audited in page if audited.own and audited.own.id]


class Writers:
    """Open transactions that are moved on one step at a time, and a reader who never waits."""

    def __init__(self, database: Database, insert: Callable[[Session], int]) -> None:
        self.sessions = [Session(database.engine) for _ in range(WRITERS)]
        self.pending: list[list[int]] = [[] for _ in range(WRITERS)]
        self.committed: list[int] = []
        self._database, self._insert = database, insert
        with database.read() as session:
            self.cursor = feed.newest_result(session)
        self.seen: list[int] = []

    def step(self, action: str, number: int) -> None:
        if action == "read":
            try:
                self.take(read(self._database, self.cursor, limit=number + 1, patience_s=0))
            except StoreUnavailable:
                assert any(self.pending)  # nobody else can be in its way
        elif action == "insert":
            self.pending[number].append(self._insert(self.sessions[number]))
        elif action == "commit":
            self.sessions[number].commit()
            self.committed += self.pending[number]
            self.pending[number] = []
        else:
            self.sessions[number].rollback()
            self.pending[number] = []

    def take(self, page: list[int]) -> None:
        self.seen += page
        self.cursor = max([self.cursor, *page])

    def finish(self) -> None:
        for number in range(WRITERS):
            self.step("commit", number)
            self.sessions[number].close()
        while page := read(self._database, self.cursor, limit=2):
            self.take(page)


@pytest.mark.slow
def test_any_order_of_commits_is_read_whole_and_once(postgres: Database, insert: Callable[[Session], int]) -> None:
    actions = st.sampled_from(["insert", "insert", "commit", "rollback", "read", "read"])

    @settings(max_examples=60)
    @example(OUT_OF_ORDER)
    @given(st.lists(st.tuples(actions, st.integers(0, WRITERS - 1)), max_size=25))
    def run(steps: list[Step]) -> None:
        writers = Writers(postgres, insert)
        for action, number in steps:
            writers.step(action, number)
        writers.finish()
        assert writers.seen == sorted(writers.committed)

    run()


@pytest.mark.slow
def test_a_lower_id_that_commits_later_is_waited_for(postgres: Database, insert: Callable[[Session], int]) -> None:
    with Session(postgres.engine) as early, Session(postgres.engine) as late:
        first, second = insert(early), insert(late)
        late.commit()
        with postgres.read() as session:  # what a reader who goes by id alone would take, and so skip the first for ever
            assert session.exec(select(AuditResult.id)).all() == [second]
        with pytest.raises(StoreUnavailable, match="has been open for over 0 s"):
            read(postgres, 0, patience_s=0)
        with ThreadPoolExecutor(1) as thread:
            page = thread.submit(read, postgres, 0)
            early.commit()
            assert page.result(30) == [first, second]


@pytest.mark.slow
def test_only_transactions_that_write_results_are_waited_for(postgres: Database, insert: Callable[[Session], int]) -> None:
    with postgres.write() as session:
        only = insert(session)
    with postgres.write() as other, postgres.read() as reader:
        other.add(AuditJob(source="x"))
        other.flush()
        reader.exec(select(AuditResult)).all()
        assert read(postgres, 0, patience_s=0) == [only]


@pytest.mark.slow
def test_a_storm_of_writers_under_a_reader(postgres: Database, insert: Callable[[Session], int]) -> None:
    committed: list[int] = []
    writing = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(15):
            with Session(postgres.engine) as session:
                ids = [insert(session) for _ in range(chance.randint(1, 3))]
                # Transactions of different lengths, so that they end in another order than they drew their ids.
                session.connection().execute(text("SELECT pg_sleep(:s)"), {"s": chance.random() / 100})
                if chance.random() < 0.2:
                    session.rollback()
                    continue
                session.commit()
            committed.extend(ids)

    def write_all() -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))
        writing.set()

    seen: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(write_all)
        while True:
            over = writing.is_set() or written.done()
            page = read(postgres, max([0, *seen]), limit=5)
            seen += page
            if over and not page:
                break
        written.result()
    assert len(committed) > 20
    assert seen == sorted(committed)


def test_a_number_is_never_given_again(database: Database, insert: Callable[[Session], int]) -> None:
    with database.write() as session:
        numbers = [insert(session), insert(session)]
    with database.write() as session:  # as retention does when nothing new has come for a long time
        session.execute(delete(AuditResult).where(col(AuditResult.id).in_(numbers)))
    with database.write() as session:
        later = insert(session)
    assert later > max(numbers)
    assert read(database, max(numbers)) == [later]


def test_the_newest_result(database: Database, insert: Callable[[Session], int]) -> None:
    with database.read() as session:
        assert feed.newest_result(session) == 0
    with database.write() as session:
        newest = insert(session)
    with database.read() as session:
        assert feed.newest_result(session) == newest
