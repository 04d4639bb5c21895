import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import column, insert, inspect, table
from sqlmodel import SQLModel, select

from schemas.api_tables import ApiKey, AuditRequest, Webhook, WebhookDelivery
from schemas.errors import StoreUnavailable
from schemas.learning_tables import BoxAnnotation, Lease, ModelDecision, PseudoMask, RetrainRun, Review, ShadowScore
from schemas.people_tables import LogEntry, LoginLink, PageSession, PageUser
from schemas.states import AnnotationKind, AnnotationOrigin, ModelAction, RetrainTrigger, ReviewDecision, Role, Verdict
from schemas.tables import AuditJob, AuditResult, ModelVersion, Picture, now
from storage import migrations
from storage.database import Database
from tests.servers import new_postgres_database

LEARNING = {"box_annotation", "review", "retrain_run", "lease", "model_decision", "pseudo_mask", "shadow_score"}
API = {"api_key", "audit_request", "webhook", "webhook_delivery"}
QUEUE = {"review_claim"}
PEOPLE = {"page_user", "page_session", "login_link", "decision_log"}
TABLES = {"picture", "audit_job", "audit_result", "model_version"} | LEARNING | API | PEOPLE | QUEUE
SECOND_LOOK = {"second_score", "stable"}  # the columns of revision 0002
LATER = SECOND_LOOK | {"reused_from", "undecided"}  # and of 0006 and 0011


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database that was never migrated."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path / 'new.db'}")
        yield database
        database.close()
        return
    with new_postgres_database(request.getfixturevalue("postgres_url")) as url:
        database = Database(url)
        yield database
        database.close()


def _fill(database: Database) -> uuid.UUID:
    job = AuditJob(source="a.jpg", sha256="0" * 64)
    with database.write() as session:
        session.add(Picture(sha256="0" * 64, bytes=1))
        session.add(ModelVersion(version="v", location="package", card={}, reason="test"))
        session.add(job)
        session.flush()
        session.add(
            AuditResult(
                job_id=job.id, model_version="v", score=0.5, verdict=Verdict.PASS, area=0, mask_png=b"\x89", width_px=1,
                height_px=1, latency_ms=1,
            )
        )  # fmt: skip
        session.add_all(_learning(job.id))
        session.add(ApiKey(id="k", name="anna", secret_sha256="0" * 64, scopes=["read"]))
        session.add(AuditRequest(id="r", key_id="k", who="anna", fingerprint="0" * 64, job_ids=[str(job.id)]))
        session.add(Webhook(id="h", url="https://example.org", secret="whsec_", cursor=2**40, who="anna"))
        session.flush()
        session.add(WebhookDelivery(webhook_id="h", result_id=2**40))
        session.add(PageUser(id="u", name="Anna", login="anna", role=Role.ADMIN))
        session.flush()
        session.add(PageSession(token_sha256="0" * 64, user_id="u", expires_at=now()))
        session.add(LoginLink(token_sha256="0" * 64, user_id="u", expires_at=now()))
        hashes = {"previous_hash": "0" * 64, "hash": "0" * 64}
        session.add(LogEntry(number=2**40, at=now(), who="a", action="b", subject="c", details={}, **hashes))
        return job.id


def _learning(job_id: uuid.UUID) -> list[SQLModel]:
    """One row of each table of the learning loop."""
    run = RetrainRun(trigger=RetrainTrigger.SCHEDULE, config={"steps": 3}, seed=2**40)
    boxes, import_ = AnnotationKind.BOXES, AnnotationOrigin.IMPORT
    box = {"x0": 0, "y0": 0, "x1": 1, "y1": 1}
    flag, passed = Verdict.FLAG, Verdict.PASS
    return [
        BoxAnnotation(sha256="0" * 64, kind=boxes, boxes=[box], width_px=1, height_px=1, annotator="a", origin=import_),
        Review(result_id=1, job_id=job_id, sha256="0" * 64, decision=ReviewDecision.UNSURE, reviewer="a"),
        run,
        Lease(name="retrain"),
        ModelDecision(version="v", action=ModelAction.PROMOTE, who="a", reason="better", run_id=run.id),
        PseudoMask(sha256="0" * 64, boxes_sha256="1" * 64, teacher_id="t", key="k", quality={"iou": 0.5}),
        ShadowScore(
            job_id=job_id, sha256="0" * 64, candidate_version="w", live_version="v", live_score=0.1, candidate_score=0.2,
            live_verdict=passed, candidate_verdict=flag, mask_agreement=0.5,
        ),
    ]  # fmt: skip


def test_up_down_and_up_again_with_rows_in_every_table(empty: Database) -> None:
    assert migrations.current_revision(empty) is None
    migrations.upgrade(empty)
    assert migrations.current_revision(empty) == migrations.head_revision() is not None
    _fill(empty)
    migrations.downgrade(empty, "base")
    assert migrations.current_revision(empty) is None
    assert not TABLES & set(inspect(empty.engine).get_table_names())
    migrations.upgrade(empty)
    assert set(inspect(empty.engine).get_table_names()) >= TABLES
    _fill(empty)


def test_upgrading_twice_changes_nothing(empty: Database) -> None:
    migrations.upgrade(empty)
    job_id = _fill(empty)
    migrations.upgrade(empty)
    with empty.read() as session:
        assert session.get(AuditJob, job_id) is not None


def test_results_of_an_earlier_schema_are_kept_up_and_down(empty: Database) -> None:
    migrations.upgrade(empty, "0001")
    with empty.write() as session:
        job = AuditJob(source="a.jpg", sha256="0" * 64)
        # Not through the model, which would name the columns of later revisions too.
        columns = ("id", "source", "sha256", "queue", "profiles", "state", "attempts", "created_at", "updated_at")
        old = table("audit_job", *(column(name, AuditJob.__table__.c[name].type) for name in columns))
        session.execute(insert(old).values(job.model_dump(include=set(columns))))
        result = AuditResult(
            job_id=job.id, model_version="v", score=0.5, verdict=Verdict.FLAG, area=0, mask_png=b"\x89", width_px=1, height_px=1,
            latency_ms=1,
        )  # fmt: skip
        session.execute(insert(AuditResult).values(result.model_dump(exclude={"id", *LATER})))
    migrations.upgrade(empty)
    with empty.read() as session:
        (kept_job,) = session.exec(select(AuditJob)).all()
        assert (kept_job.id, kept_job.retries, kept_job.fence, kept_job.claimed_at) == (job.id, 0, 0, None)
        assert [picture.sha256 for picture in session.exec(select(Picture))] == ["0" * 64]
        (kept,) = session.exec(select(AuditResult)).all()
        assert (kept.score, kept.verdict, kept.second_score, kept.stable) == (0.5, Verdict.FLAG, None, None)
        assert kept.reused_from is None
    migrations.downgrade(empty, "0001")
    assert not LATER & {each["name"] for each in inspect(empty.engine).get_columns("audit_result")}
    with empty.read() as session:
        assert session.exec(select(AuditResult.score, AuditResult.mask_png)).all() == [(0.5, b"\x89")]


def test_the_learning_loop_comes_and_goes_beside_results_that_stay(empty: Database) -> None:
    migrations.upgrade(empty)
    job_id = _fill(empty)
    with empty.read() as session:
        (run,) = session.exec(select(RetrainRun)).all()
        (annotation,) = session.exec(select(BoxAnnotation)).all()
        assert (run.trigger, run.config, run.seed, run.step) == (RetrainTrigger.SCHEDULE, {"steps": 3}, 2**40, 0)
        assert annotation.pixel_boxes[0].as_tuple() == (0, 0, 1, 1)
    migrations.downgrade(empty, "0006_same_picture")
    assert not LEARNING & set(inspect(empty.engine).get_table_names())
    migrations.upgrade(empty)
    with empty.read() as session:
        assert session.get(AuditJob, job_id) is not None
        assert session.exec(select(RetrainRun)).all() == []


def test_models_and_migrations_agree(database: Database) -> None:
    with database.read() as session:
        context = MigrationContext.configure(session.connection(), opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_a_migration_that_fails_leaves_nothing_behind(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic.operations import Operations

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(Operations, "create_index", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            migrations.upgrade(empty)
    assert not TABLES & set(inspect(empty.engine).get_table_names())
    migrations.upgrade(empty)
    assert migrations.current_revision(empty) == migrations.head_revision()


def test_no_database_is_said_in_our_words(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'x.db'}")
    with pytest.raises(StoreUnavailable, match="unable to open database file"):
        migrations.upgrade(database)
    database.close()
