"""Audits asked for over HTTP, taken in: bytes to the blob store, rows to SQL, then messages; each request once."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlmodel import Session

from model.compress import PROFILES
from schemas.api_tables import AuditRequest
from schemas.errors import BrokerUnavailable, TamperwatchError
from schemas.settings import SubmitSettings
from schemas.states import AuditQueue
from storage import audit_requests, jobs
from storage.audit_requests import Begun
from storage.blobs import picture_key
from storage.jobs import NewJob
from web.access import Caller
from web.context import Context
from web.lookup import source_of
from web.references import AuditOrder, Wishes
from web.uploads import Form, Upload
from web.views import AuditView, audit_view
from workers.sending import Sender
from workers.submission import Submission, submit_sources

log = logging.getLogger(__name__)


def take_form(context: Context, caller: Caller, form: Form, idempotency_key: str | None) -> AuditView:
    """Take in pictures that were sent. One that is refused is a failed job; its neighbours go on.

    Raises:
        PictureError: every one of them is refused; nothing is recorded then.
        Conflict, IdempotencyMismatch, StoreUnavailable, BlobStoreUnavailable, DiskFull
    """
    refused = [each.error for each in form.uploads if each.error is not None]
    if len(refused) == len(form.uploads):
        raise refused[0]
    begun = _begin(context, caller, form.fingerprint, idempotency_key)
    if not begun.is_new:
        return audit_of(context, begun.request.id)
    with _given_up_on_error(context, begun.request):
        for each in form.uploads:
            if each.sha256 is not None:
                context.blobs.put_file(picture_key(each.sha256), each.file, each.size_bytes)
        refs = form.client_refs or [_reference(begun.request, index) for index in range(len(form.uploads))]
        new = [_new_job(begun.request, form.wishes, context, *pair) for pair in zip(form.uploads, refs, strict=True)]
        with context.database.write() as session:
            to_send = jobs.add_jobs(session, new)
            view = _finished(session, begun.request, refs)
        sender = Sender(context.app, max_queued=0)
        list(sender.send(to_send, []))
        _note(sender.error)
    return view


def take_order(context: Context, caller: Caller, order: AuditOrder, idempotency_key: str | None) -> AuditView:
    """Take in pictures that were named.

    Raises:
        Conflict, IdempotencyMismatch, StoreUnavailable, BlobStoreUnavailable
    """
    fingerprint = hashlib.sha256(order.model_dump_json().encode()).hexdigest()
    begun = _begin(context, caller, fingerprint, idempotency_key)
    if not begun.is_new:
        return audit_of(context, begun.request.id)
    with _given_up_on_error(context, begun.request):
        refs = [each.client_ref or _reference(begun.request, index) for index, each in enumerate(order.pictures)]
        # Each reference once: the same one twice in a request is one job, and stands in both places.
        sources = {ref: source_of(each, ref, context) for ref, each in zip(refs, order.pictures, strict=True)}
        submission = _submission(context, begun.request, order)
        try:
            for _ in submit_sources(sources.values(), submission, context.database, context.blobs, context.app):
                pass
        except BrokerUnavailable as error:
            _note(error)
        with context.database.write() as session:
            return _finished(session, begun.request, refs)


def audit_of(context: Context, audit_id: str) -> AuditView:
    """An audit as it stands.

    Raises:
        NotFound
    """
    with context.database.read() as session:
        request = audit_requests.get(session, audit_id)
        return audit_view(request, audit_requests.asked_jobs(session, request))


def _finished(session: Session, request: AuditRequest, refs: Sequence[str]) -> AuditView:
    """Note that an audit is in, and show it: in the same transaction, as most of an upload's time goes into those."""
    finished = audit_requests.finish(session, request, audit_requests.job_ids_of(session, refs))
    return audit_view(finished, audit_requests.asked_jobs(session, finished))


def _begin(context: Context, caller: Caller, fingerprint: str, idempotency_key: str | None) -> Begun:
    if idempotency_key is None:
        return Begun(audit_requests.new_request(caller.key, fingerprint), is_new=True)
    remembered = timedelta(hours=context.settings.web.idempotency_hours)
    with context.database.write() as session:
        return audit_requests.begin(session, caller.key, fingerprint, idempotency_key, remembered)


@contextmanager
def _given_up_on_error(context: Context, request: AuditRequest) -> Iterator[None]:
    try:
        yield
    except Exception:
        if request.idempotency_key is None:
            raise
        try:
            with context.database.write() as session:
                audit_requests.give_up(session, request)
        except TamperwatchError as error:
            log.warning("audit %s stays open until it counts as abandoned: %s", request.id, error.message)
        raise


def _reference(request: AuditRequest, index: int) -> str:
    """A picture's name where its sender gave none: the same when the same request is taken up again."""
    return f"{request.id}/{index}"


def _new_job(request: AuditRequest, wishes: Wishes, context: Context, upload: Upload, client_ref: str) -> NewJob:
    return NewJob(
        source=upload.name,
        sha256=upload.sha256,
        bytes=upload.size_bytes,
        client_ref=client_ref,
        submission=request.id,
        queue=wishes.queue,
        profiles=_profiles_of(wishes, context.settings.submit),
        source_profile=wishes.source_profile,
        error=upload.error_record,
    )


def _submission(context: Context, request: AuditRequest, order: AuditOrder) -> Submission:
    submit = context.settings.submit
    return Submission(
        request.id,
        context.settings.limits.max_bytes,
        order.queue,
        order.profiles or (),
        queue_profiles={} if order.profiles is not None else {queue: _listed(submit, queue) for queue in AuditQueue},
        source_profile=order.source_profile,
        threads=submit.threads,
    )


def _profiles_of(wishes: Wishes, submit: SubmitSettings) -> tuple[str, ...]:
    """The deliveries to simulate: those asked for, or the settings' for the queue where nothing was said."""
    return wishes.profiles if wishes.profiles is not None else _listed(submit, wishes.queue)


def _listed(submit: SubmitSettings, queue: AuditQueue) -> tuple[str, ...]:
    names: str = getattr(submit, f"profiles_{queue.value}")
    return tuple(PROFILES) if names.strip() == "all" else tuple(each.strip() for each in names.split(",") if each.strip())


def _note(error: TamperwatchError | None) -> None:
    if error is not None:
        log.warning("taken in, and sent to the workers with the next sweep: %s", error.message)
