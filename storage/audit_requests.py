"""Audits that were asked for over HTTP: taken in once under each Idempotency-Key, and found again by their number.

The header is that of the IETF's draft-ietf-httpapi-idempotency-key-header. Callers bring the session.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import and_, delete, update
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from schemas.api_tables import ApiKey, AuditRequest
from schemas.errors import Conflict, IdempotencyMismatch, NotFound
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, now
from storage.turns import take_turns

_PAGE: Final = 500
_ABANDONED_AFTER: Final = timedelta(seconds=120)


@dataclass(frozen=True)
class Begun:
    """An audit that its sender may work on; not `is_new` where it was taken in before and nothing is left to do."""

    request: AuditRequest
    is_new: bool


@dataclass(frozen=True)
class AskedJob:
    """One picture of an audit; both None where it was purged.

    Attributes:
        result: of the picture as submitted, by the version that audited it last; without its mask.
    """

    job_id: str
    job: AuditJob | None
    result: AuditResult | None


def new_request(key: ApiKey, fingerprint: str, idempotency_key: str | None = None) -> AuditRequest:
    """An audit that is not stored yet. Without an Idempotency-Key nobody can ask for it again, and `finish` is early enough."""
    return AuditRequest(
        id=uuid.uuid4().hex, key_id=key.id, who=key.name, idempotency_key=idempotency_key, fingerprint=fingerprint
    )


def begin(session: Session, key: ApiKey, fingerprint: str, idempotency_key: str, remembered: timedelta) -> Begun:
    """Open an audit, or find the one that was opened under the same key.

    Args:
        key: whose Idempotency-Keys these are.
        fingerprint: sha256 of what is asked; the same key must come with the same one.
        idempotency_key: as the sender named the request.
        remembered: for how long the name is taken.

    Raises:
        IdempotencyMismatch: the name came with another request.
        Conflict: another process is at work on the same request at this moment.
    """
    if idempotency_key is not None:
        take_turns(session, [f"idempotency {key.id} {idempotency_key}"])
        known = _known(session, key.id, idempotency_key, remembered)
        if known is not None:
            return _again(session, known, fingerprint)
    row = AuditRequest(id=uuid.uuid4().hex, key_id=key.id, who=key.name, idempotency_key=idempotency_key, fingerprint=fingerprint)
    session.add(row)
    session.flush()
    session.expunge(row)
    return Begun(row, is_new=True)


def finish(session: Session, request: AuditRequest, job_ids: Sequence[uuid.UUID]) -> AuditRequest:
    """Note that an audit is in, with its jobs in the order asked, and return it as it stands then."""
    finished = AuditRequest(
        **request.model_dump(exclude={"job_ids", "finished_at"}), job_ids=[str(each) for each in job_ids], finished_at=now()
    )
    if request.idempotency_key is None:
        session.add(finished)
    else:
        values = {"job_ids": finished.job_ids, "finished_at": finished.finished_at}
        session.execute(update(AuditRequest).where(col(AuditRequest.id) == request.id).values(values))
    return finished


def give_up(session: Session, request: AuditRequest) -> None:
    """Let its sender ask again at once for an audit that could not be taken in; what is in already is not taken in twice."""
    ours = (col(AuditRequest.id) == request.id, col(AuditRequest.finished_at).is_(None))
    session.execute(update(AuditRequest).where(*ours).values(begun_at=now() - _ABANDONED_AFTER))


def purge(session: Session, older_than: timedelta) -> int:
    """Forget audits that were asked for so long ago; their jobs and results stay. Returns how many."""
    old = delete(AuditRequest).where(col(AuditRequest.created_at) < now() - older_than)
    return int(session.connection().execute(old).rowcount)


def get(session: Session, request_id: str) -> AuditRequest:
    """An audit by its number.

    Raises:
        NotFound: there is none, or it was forgotten.
    """
    row = session.get(AuditRequest, request_id)
    if row is None:
        raise NotFound(f"no audit {request_id}; audits are forgotten after TAMPERWATCH_WEB__REQUESTS_KEPT_DAYS")
    return row


def asked_jobs(session: Session, request: AuditRequest) -> list[AskedJob]:
    """The pictures of an audit in the order asked, each with its newest result as submitted."""
    found: dict[str, AskedJob] = {}
    own = and_(col(AuditResult.job_id) == col(AuditJob.id), col(AuditResult.profile) == OWN_PICTURE)
    query = select(AuditJob, AuditResult).outerjoin(AuditResult, own).options(defer(col(AuditResult.mask_png)))  # type: ignore[arg-type]
    for start in range(0, len(request.job_ids), _PAGE):
        ids = [uuid.UUID(each) for each in request.job_ids[start : start + _PAGE]]
        # Oldest first: of several versions the last one stays.
        for job, result in session.exec(query.where(col(AuditJob.id).in_(ids)).order_by(col(AuditResult.id))):
            found[str(job.id)] = AskedJob(str(job.id), job, result)
    return [found.get(each, AskedJob(each, None, None)) for each in request.job_ids]


def job_ids_of(session: Session, client_refs: Sequence[str]) -> list[uuid.UUID]:
    """The jobs under these client references, in their order.

    Raises:
        KeyError: there is none under one of them.
    """
    found: dict[str | None, uuid.UUID] = {}
    for start in range(0, len(client_refs), _PAGE):
        page = client_refs[start : start + _PAGE]
        rows = session.exec(select(AuditJob.client_ref, AuditJob.id).where(col(AuditJob.client_ref).in_(page)))
        found |= {ref: job_id for ref, job_id in rows}
    return [found[ref] for ref in client_refs]


def _known(session: Session, key_id: str, idempotency_key: str, remembered: timedelta) -> AuditRequest | None:
    """The audit under this name, unless its time is over: then the name is free again."""
    wanted = (AuditRequest.key_id == key_id, AuditRequest.idempotency_key == idempotency_key)
    row = session.exec(select(AuditRequest).where(*wanted)).one_or_none()
    if row is not None and row.created_at < now() - remembered:
        row.idempotency_key = None
        session.add(row)
        session.flush()
        return None
    return row


def _again(session: Session, row: AuditRequest, fingerprint: str) -> Begun:
    if row.fingerprint != fingerprint:
        raise IdempotencyMismatch("this Idempotency-Key came with another request before; use a new one for each request")
    if row.finished_at is None:
        if row.begun_at > now() - _ABANDONED_AFTER:
            raise Conflict("the same request is being taken in at this moment; ask again in a second", retry_after_s=1)
        # Whoever had it died with it. Its pictures keep their references, so that none is taken in twice.
        row.begun_at = now()
        session.add(row)
        session.flush()
    is_new = row.finished_at is None
    session.expunge(row)
    return Begun(row, is_new)
