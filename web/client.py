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
from typing import Any, Final, Literal, Self, TypeVar

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.geometry import PixelBox
from schemas.states import AuditQueue, ReviewDecision, Verdict
from web.references import AuditOrder, PictureReference, Wishes
from web.views import AnnotationView, AuditView, ModelDetails, ModelView, Problem, ResultPage, ResultView, ReviewView

View = TypeVar("View", bound=BaseModel)
Artefact = Literal["mask.png", "overlay.png", "picture"]

_WORTH_ANOTHER_TRY: Final = (408, 429, 502, 503, 504)
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_POLL_S: Final = 0.5
_MODELS: Final = TypeAdapter(list[ModelView])


class ApiError(Exception):
    """The server did not do what it was asked.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        problem: what the server said, where it said it in our form.
    """

    def __init__(self, message: str, status: int, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem


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
        self._http = httpx2.Client(base_url=address, headers=headers, timeout=timeout_s, transport=transport)
        self._give_up_s = give_up_s
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

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
                return self._http.post("/v1/audits", data=fields, files=files, headers=headers)

        return _parsed(AuditView, self._patiently(send))

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
        return _parsed(AuditView, self._patiently(lambda: self._http.post("/v1/audits", content=body, headers=headers)))

    def audit(self, audit_id: str) -> AuditView:
        """What became of an audit."""
        return self._get(AuditView, f"/v1/audits/{audit_id}")

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
            self._sleep(_POLL_S)
        return found

    def results(self, cursor: int = 0, verdict: Verdict | None = None, page_size: int = 200) -> Iterator[ResultView]:
        """Every result behind a cursor, each once, up to the newest. Keep the last one's `id`: it is the next cursor."""
        while True:
            page = self.page(cursor, verdict, page_size)
            yield from page.results
            cursor = page.next_cursor
            if not page.more:
                return

    def page(self, cursor: int = 0, verdict: Verdict | None = None, limit: int = 200) -> ResultPage:
        """One page of results."""
        wanted: dict[str, Any] = {"cursor": cursor, "limit": limit} | ({"verdict": verdict.value} if verdict else {})
        return self._get(ResultPage, "/v1/results", wanted)

    def result(self, number: int) -> ResultView:
        """One result."""
        return self._get(ResultView, f"/v1/results/{number}")

    def download(self, number: int, what: Artefact, path: Path) -> None:
        """Write a result's mask, overlay or picture to a file, a piece at a time.

        Raises:
            ApiError, OSError
        """
        with self._http.stream("GET", f"/v1/results/{number}/{what}") as answer:
            if answer.status_code != httpx2.codes.OK:
                answer.read()
                raise _error(answer)
            with path.open("wb") as file:
                for piece in answer.iter_bytes():
                    file.write(piece)

    def review(self, number: int, decision: ReviewDecision, note: str = "", by: str | None = None) -> ReviewView:
        """Decide about a result; saying the same again adds nothing."""
        return self._post(ReviewView, f"/v1/results/{number}/review", decision=decision.value, note=note, by=by)

    def annotate(self, number: int, boxes: Sequence[PixelBox], note: str = "", by: str | None = None) -> AnnotationView:
        """Say where a result's picture was manipulated, in its own pixels; with no box, that it is authentic."""
        kind = "boxes" if boxes else "authentic"
        said = [box.model_dump() for box in boxes]
        return self._post(AnnotationView, "/v1/annotations", result_id=number, kind=kind, boxes=said, note=note, by=by)

    def undo(self, annotation: int, reason: str, by: str | None = None) -> AnnotationView:
        """Take an annotation back."""
        return self._post(AnnotationView, f"/v1/annotations/{annotation}/undo", reason=reason, by=by)

    def models(self) -> list[ModelView]:
        """All model versions, newest first."""
        return _MODELS.validate_json(self._patiently(lambda: self._http.get("/v1/models")).content)

    def promote(self, version: str, reason: str, from_version: str | None = None, override: bool = False) -> ModelDetails:
        """Make a version live."""
        return self._post(
            ModelDetails, f"/v1/models/{version}/promote", reason=reason, from_version=from_version, override=override
        )

    def reject(self, version: str, reason: str) -> ModelDetails:
        """Retire a version that is not live."""
        return self._post(ModelDetails, f"/v1/models/{version}/reject", reason=reason)

    def rollback(self, reason: str, from_version: str, to: str | None = None) -> ModelDetails:
        """Go back from the version that is live; named, so that a repeated request goes back no further."""
        return self._post(ModelDetails, "/v1/models/rollback", reason=reason, to=to, from_version=from_version)

    def _get(self, kind: type[View], path: str, query: dict[str, Any] | None = None) -> View:
        return _parsed(kind, self._patiently(lambda: self._http.get(path, params=query)))

    def _post(self, view: type[View], path: str, /, **body: object) -> View:
        said = {name: value for name, value in body.items() if value is not None}
        return _parsed(view, self._patiently(lambda: self._http.post(path, json=said)))

    def _patiently(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """The answer to a request that may be sent more than once, tried again while the server is away or busy.

        Raises:
            ApiError
        """
        ends_s, pause_s = time.monotonic() + self._give_up_s, _FIRST_PAUSE_S
        while True:
            try:
                answer = send()
            except httpx2.TransportError as error:
                failed, wait_s = ApiError(f"the server does not answer: {error}", 0), pause_s
            else:
                if answer.is_success:
                    return answer
                failed, wait_s = _error(answer), _retry_after_s(answer, pause_s)
                if answer.status_code not in _WORTH_ANOTHER_TRY and not _is_at_work(answer):
                    raise failed
            if time.monotonic() + wait_s >= ends_s:
                raise failed
            self._sleep(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _is_at_work(answer: httpx2.Response) -> bool:
    """An earlier try of the same request has not ended yet; the server says when to ask again."""
    return answer.status_code == httpx2.codes.CONFLICT and "retry-after" in answer.headers


def _retry_after_s(answer: httpx2.Response, otherwise_s: float) -> float:
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else otherwise_s


def _error(answer: httpx2.Response) -> ApiError:
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        return ApiError(f"HTTP status {answer.status_code}", answer.status_code)
    return ApiError(f"{problem.code}: {problem.detail}", answer.status_code, problem)


def _parsed(kind: type[View], answer: httpx2.Response) -> View:
    try:
        return kind.model_validate_json(answer.content)
    except ValidationError as error:
        raise ApiError(f"not an answer of this API: {error}", answer.status_code) from error
