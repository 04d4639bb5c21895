"""A typed client of the HTTP API, over httpx2. Needs the extra [web] and nothing of the server.

with TamperwatchClient("https://audit.example.com", token) as client:
    audit = client.submit_files([Path("suspicious.jpg")])
    for picture in client.wait(audit.id).pictures:
        print(picture.name, picture.result or picture.error)
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import httpx2

from schemas.geometry import PixelBox
from schemas.states import AuditQueue, DeliveryState, ReviewDecision, Verdict
from web.client_connection import ApiError, Connection, parsed
from web.client_events import follow
from web.references import AuditOrder, PictureReference, Wishes
from web.views import AnnotationView, AuditView, ModelDetails, ModelView, ResultPage, ResultView, ReviewView
from web.webhook_views import DeliveryView, MadeWebhook, NewWebhook, WebhookView

__all__ = ["ApiError", "TamperwatchClient"]

Artefact = Literal["mask.png", "overlay.png", "picture"]

_POLL_S: Final = 0.5


class TamperwatchClient:
    """One server and one API key. Requests that may be repeated are, as the server says when; close it or use `with`."""

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        give_up_s: float = 120.0,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is connected yet.

        Args:
            address: as in `https://audit.example.com`.
            token: the API key; by default from the variable TAMPERWATCH_API_KEY.
            timeout_s: of one request.
            give_up_s: a request is repeated until so long after the first try.
            transport, sleep: for tests.
        """
        headers = {"Authorization": f"Bearer {token or os.environ.get('TAMPERWATCH_API_KEY', '')}"}
        http = httpx2.Client(base_url=address, headers=headers, timeout=timeout_s, transport=transport)
        self._connection = Connection(http, give_up_s, sleep)
        self._give_up_s = give_up_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._connection.http.close()

    def submit_files(
        self,
        paths: Sequence[Path],
        *,
        queue: AuditQueue = AuditQueue.DEFAULT,
        profiles: Sequence[str] | None = None,
        source_profile: str | None = None,
        client_refs: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> AuditView:
        """Send pictures, read from disk as they are sent. A try that broke off is repeated and taken in once.

        Args:
            paths: as many as the server takes in one request (16, if nobody changed that).
            client_refs: your own names for them, in their order.
            idempotency_key: your name for the request; by default one is drawn.

        Raises:
            ApiError: every picture is refused, or the server does not answer.
            OSError: a file cannot be read.
        """
        fields: dict[str, Any] = {"queue": queue.value}
        fields |= {"profiles": ",".join(profiles)} if profiles is not None else {}
        fields |= {"source_profile": source_profile} if source_profile is not None else {}
        fields |= {"client_ref": list(client_refs)} if client_refs is not None else {}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}

        def send() -> httpx2.Response:
            with ExitStack() as opened:
                files = [("file", (path.name, opened.enter_context(path.open("rb")))) for path in paths]
                return self._connection.http.post("/v1/audits", data=fields, files=files, headers=headers)

        return parsed(AuditView, self._connection.patiently(send))

    def submit_references(
        self, pictures: Iterable[PictureReference], wishes: Wishes | None = None, idempotency_key: str | None = None
    ) -> AuditView:
        """Name up to 1000 pictures by sha256, URL or S3 address.

        Raises:
            ApiError
        """
        said = (wishes or Wishes()).model_dump()
        order = AuditOrder(pictures=list(pictures), **said)
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex, "Content-Type": "application/json"}
        body = order.model_dump_json(exclude_none=True)
        return parsed(
            AuditView, self._connection.patiently(lambda: self._connection.http.post("/v1/audits", content=body, headers=headers))
        )

    def audit(self, audit_id: str) -> AuditView:
        """What became of an audit."""
        return self._connection.get(AuditView, f"/v1/audits/{audit_id}")

    def wait(self, audit_id: str, timeout_s: float = 600.0) -> AuditView:
        """An audit once all of its pictures have ended.

        Raises:
            TimeoutError: they have not.
            ApiError
        """
        ends_s = time.monotonic() + timeout_s
        while not (found := self.audit(audit_id)).ended:
            if time.monotonic() >= ends_s:
                raise TimeoutError(f"audit {audit_id} has not ended after {timeout_s:g} s")
            self._connection.sleep(_POLL_S)
        return found

    def results(self, cursor: int = 0, verdict: Verdict | None = None, page_size: int = 200) -> Iterator[ResultView]:
        """Every result behind a cursor, each once, up to the newest. Keep the last one's `id`: it is the next cursor."""
        while True:
            page = self.page(cursor, verdict, page_size)
            yield from page.results
            cursor = page.next_cursor
            if not page.more:
                return

    def page(
        self, cursor: int = 0, verdict: Verdict | None = None, limit: int = 200, source_profile: str | None = None
    ) -> ResultPage:
        """One page of results."""
        wanted: dict[str, Any] = {"cursor": cursor, "limit": limit} | ({"verdict": verdict.value} if verdict else {})
        wanted |= {"source_profile": source_profile} if source_profile else {}
        return self._connection.get(ResultPage, "/v1/results", wanted)

    def newest(self) -> int:
        """The cursor behind the newest result."""
        return self._connection.get(ResultPage, "/v1/results/newest").next_cursor

    def follow(
        self, cursor: int | None = None, verdict: Verdict | None = None, source_profile: str | None = None
    ) -> Iterator[ResultView]:
        """Results as they come, each once, for as long as you read; a server that goes away is waited for.

        Args:
            cursor: begin behind this result; by default, with what comes from now on.

        Raises:
            ApiError: the server refuses, or is away for too long.
        """
        wanted = {"verdict": verdict.value} if verdict else {}
        wanted |= {"source_profile": source_profile} if source_profile else {}
        return follow(self._connection, self.newest() if cursor is None else cursor, wanted, self._give_up_s)

    def result(self, number: int) -> ResultView:
        """One result."""
        return self._connection.get(ResultView, f"/v1/results/{number}")

    def download(self, number: int, what: Artefact, path: Path) -> None:
        """Write a result's mask, overlay or picture to a file, a piece at a time.

        Raises:
            ApiError, OSError
        """
        with self._connection.opened(f"/v1/results/{number}/{what}") as answer, path.open("wb") as file:
            for piece in answer.iter_bytes():
                file.write(piece)

    def review(
        self, number: int, decision: ReviewDecision, note: str = "", by: str | None = None, seen: int | None = None
    ) -> ReviewView:
        """Decide about a result; saying the same again adds nothing.

        Args:
            seen: the newest decision that you know of, 0 for none.

        Raises:
            ApiError: with status 409, where somebody decided after `seen`; the problem says who.
        """
        path = f"/v1/results/{number}/review"
        return self._connection.post(ReviewView, path, decision=decision.value, note=note, by=by, seen=seen)

    def reviews(self, number: int) -> list[ReviewView]:
        """The standing decision of each person about a result."""
        return self._connection.get_list(ReviewView, f"/v1/results/{number}/reviews")

    def annotate(self, number: int, boxes: Sequence[PixelBox], note: str = "", by: str | None = None) -> AnnotationView:
        """Say where a result's picture was manipulated, in its own pixels; with no box, that it is authentic."""
        kind = "boxes" if boxes else "authentic"
        said = [box.model_dump() for box in boxes]
        return self._connection.post(AnnotationView, "/v1/annotations", result_id=number, kind=kind, boxes=said, note=note, by=by)

    def undo(self, annotation: int, reason: str, by: str | None = None) -> AnnotationView:
        """Take an annotation back."""
        return self._connection.post(AnnotationView, f"/v1/annotations/{annotation}/undo", reason=reason, by=by)

    def models(self) -> list[ModelView]:
        """All model versions, newest first."""
        return self._connection.get_list(ModelView, "/v1/models")

    def promote(self, version: str, reason: str, from_version: str | None = None, override: bool = False) -> ModelDetails:
        """Make a version live."""
        return self._connection.post(
            ModelDetails, f"/v1/models/{version}/promote", reason=reason, from_version=from_version, override=override
        )

    def reject(self, version: str, reason: str) -> ModelDetails:
        """Retire a version that is not live."""
        return self._connection.post(ModelDetails, f"/v1/models/{version}/reject", reason=reason)

    def rollback(self, reason: str, from_version: str, to: str | None = None) -> ModelDetails:
        """Go back from the version that is live; named, so that a repeated request goes back no further."""
        return self._connection.post(ModelDetails, f"/v1/models/{from_version}/rollback", reason=reason, to=to)

    def webhooks(self) -> list[WebhookView]:
        """Where results are pushed to."""
        return self._connection.get_list(WebhookView, "/v1/webhooks")

    def push_to(self, url: str, verdict: Verdict | None = None) -> MadeWebhook:
        """Push results from now on; keep the secret, which is not shown again. `web.signatures.verify` checks deliveries."""
        body = NewWebhook(url=url, verdict=verdict).model_dump(mode="json")
        # Sent twice, it would make two.
        return parsed(MadeWebhook, self._connection.once(lambda: self._connection.http.post("/v1/webhooks", json=body)))

    def deliveries(self, webhook_id: str, state: DeliveryState | None = None, before: int | None = None) -> list[DeliveryView]:
        """What was sent to a webhook, newest first."""
        wanted: dict[str, Any] = {"state": state.value} if state else {}
        return self._connection.get_list(
            DeliveryView, f"/v1/webhooks/{webhook_id}/deliveries", wanted | ({"before": before} if before else {})
        )

    def deliver_again(self, webhook_id: str, delivery: int) -> DeliveryView:
        """Try a delivery anew."""
        return self._connection.post(DeliveryView, f"/v1/webhooks/{webhook_id}/deliveries/{delivery}/retry")

    def push_no_more(self, webhook_id: str) -> None:
        """Delete a webhook with its log."""
        self._connection.patiently(lambda: self._connection.http.delete(f"/v1/webhooks/{webhook_id}"))
