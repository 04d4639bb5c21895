"""The same picture, once: a job whose picture has been audited before is answered from the store.

Results belong to bytes, a model version and a profile, so those of an earlier job with the same sha256 are copied to the
new one, which then never fetches, decodes or asks the network. That costs a batch of claims one more query, and one more
for each picture that was seen before; indexes bound both however often a picture comes, since only its newest jobs are
looked at. Two jobs that are under way at once for the same bytes don't know of each other and are both audited.
"""

import functools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Float, Select, bindparam, exists, func, select
from sqlmodel import Session, SQLModel

from schemas.messages import AuditMessage
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, UtcDateTime, now
from storage import jobs
from storage.jobs import Claim, Held

# A picture that came a thousand times has a thousand jobs; a usable result is among the newest, or is made once more.
_NEWEST = 16


@dataclass(frozen=True)
class ReusePolicy:
    """Which earlier results a worker may hand out again.

    Attributes:
        model_version: the one the worker would judge by.
        second_look: whether it would look again at a picture with this score. A result is only taken over if that was
            done then as it would be done now; so a change of the setting changes answers too.
    """

    model_version: str
    second_look: Callable[[float], bool]


@dataclass(frozen=True)
class Answered:
    """A job that has ended with the results of an earlier one of the same picture.

    Attributes:
        verdict: on the picture as submitted.
        profiles: how many results were copied, that of the picture itself included.
    """

    verdict: Verdict
    profiles: int


def claim_or_answer(
    session: Session, message: AuditMessage, lease_s: float, policy: ReusePolicy | None
) -> Claim | Held | Answered | None:
    """Claim a job as `jobs.claim_job` does, and end it at once if its picture has all the results it asks for.

    Args:
        policy: None claims only.
    """
    return claims_or_answers(session, [message], lease_s, policy)[0]


def claims_or_answers(
    session: Session, messages: Sequence[AuditMessage], lease_s: float, policy: ReusePolicy | None
) -> list[Claim | Held | Answered | None]:
    """The same for many messages, with as many statements where none of their pictures has been seen before."""
    claims = jobs.claim_jobs(session, messages, lease_s)
    pictures = {claim.sha256 for claim in claims if isinstance(claim, Claim) and claim.sha256} if policy else set()
    seen = _with_ended_jobs(session, pictures)
    answers: list[Claim | Held | Answered | None] = []
    for message, claim in zip(messages, claims, strict=True):
        if policy and isinstance(claim, Claim) and claim.sha256 and claim.sha256 in seen:
            answers.append(answer(session, message, claim.sha256, claim.fence, policy) or claim)
        else:
            answers.append(claim)
    return answers


def answer(session: Session, message: AuditMessage, sha256: str, fence: int, policy: ReusePolicy) -> Answered | None:
    """End a claimed job with the results that its picture has already; None, and nothing changed, if it lacks one of them.

    Args:
        sha256: of the picture, which the message need not know.
        fence: of the claim under which the job is held.
    """
    started = time.perf_counter()
    profiles = list({OWN_PICTURE, *message.profiles})
    source = _earlier_result(session, sha256, profiles, policy)
    if source is None:
        return None
    with session.begin_nested() as savepoint:
        copied = _copied(session, message.job_id, source.job_id, profiles, policy.model_version, started)
        if copied and jobs.finish_job(session, message.job_id, [], fence):
            return Answered(source.verdict, len(profiles))
        savepoint.rollback()
    return None


def _with_ended_jobs(session: Session, pictures: Set[str]) -> Set[str]:
    """Those of these pictures that may have results; most have none, and one statement says so for all."""
    if not pictures:
        return frozenset()
    return frozenset(session.connection().execute(_seen(), {"pictures": list(pictures)}).scalars())


def _earlier_result(session: Session, sha256: str, profiles: Sequence[str], policy: ReusePolicy) -> Any:
    """The (job_id, verdict, …) of a result of the same bytes that may be taken over with those of its profiles, or None.

    All come from one job, because agreements compare masks within it.
    """
    values = {"sha256": sha256, "model_version": policy.model_version, "profiles": profiles}
    rows = session.connection().execute(_candidates(), values).all()
    found = Counter(row.job_id for row in rows)
    own = (row for row in rows if row.profile == OWN_PICTURE and found[row.job_id] == len(profiles))
    return next((row for row in own if policy.second_look(row.score) == (row.second_score is not None)), None)


def _copied(
    session: Session, job_id: uuid.UUID, source: uuid.UUID, profiles: Sequence[str], model_version: str, started: float
) -> bool:
    """Copy one job's results to another inside the database; False, and nothing is copied, if one was purged meanwhile."""
    values = {
        "to_job_id": job_id,
        "source": source,
        "model_version": model_version,
        "profiles": profiles,
        "wanted": len(profiles),
        "at": now(),
        "took_ms": (time.perf_counter() - started) * 1000,
    }
    statement = _copy(session.get_bind().dialect.name)
    return session.connection().execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount > 0


_PICTURES = SQLModel.metadata.tables["picture"]
_JOBS = SQLModel.metadata.tables["audit_job"]
_RESULTS = SQLModel.metadata.tables["audit_result"]


def _usable(results: Any) -> tuple[Any, ...]:
    """Results of the version and the profiles that are asked for, whose masks have not been purged."""
    return (
        results.c.model_version == bindparam("model_version"),
        results.c.profile.in_(bindparam("profiles", expanding=True)),
        func.length(results.c.mask_png) > 0,
    )


@functools.cache
def _seen() -> Select[Any]:
    """Which of these pictures have a job that ended; one such job is enough to know, however many there are."""
    ended = exists().where(_JOBS.c.sha256 == _PICTURES.c.sha256, _JOBS.c.finished_at.is_not(None))
    return select(_PICTURES.c.sha256).where(_PICTURES.c.sha256.in_(bindparam("pictures", expanding=True)), ended)


@functools.cache
def _candidates() -> Select[Any]:
    """Usable results of the newest jobs of one picture. Without their masks, which stay in the database."""
    ended = select(_JOBS.c.id).where(_JOBS.c.sha256 == bindparam("sha256"), _JOBS.c.finished_at.is_not(None))
    newest = ended.order_by(_JOBS.c.finished_at.desc()).limit(_NEWEST)
    columns = [_RESULTS.c[name] for name in ("job_id", "profile", "verdict", "score", "second_score")]
    return select(*columns).where(_RESULTS.c.job_id.in_(newest), *_usable(_RESULTS))


@functools.cache
def _copy(dialect: str) -> Any:
    """INSERT the source's results as the job's own, all or none: they are counted and read in the same snapshot."""
    others = _RESULTS.alias()
    of_source = bindparam("source", type_=_RESULTS.c.job_id.type)
    count = select(func.count()).select_from(others).where(others.c.job_id == of_source, *_usable(others)).scalar_subquery()
    replaced = {
        "job_id": bindparam("to_job_id", type_=_RESULTS.c.job_id.type),
        "reused_from": func.coalesce(_RESULTS.c.reused_from, _RESULTS.c.id),
        "latency_ms": bindparam("took_ms", type_=Float()),
        "created_at": bindparam("at", type_=UtcDateTime()),
    }
    rows = select(*(replaced.get(column.name, column) for column in _RESULTS.c if column.name != "id"))
    rows = rows.where(_RESULTS.c.job_id == of_source, *_usable(_RESULTS), count == bindparam("wanted"))
    return jobs.upsert_results(dialect, rows)
