"""The client's side of HTTP: one connection pool, patience where a server is away or busy, and answers read as what they are."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from web.views import Problem

Parsed = TypeVar("Parsed")
View = TypeVar("View", bound=BaseModel)

_WORTH_ANOTHER_TRY: Final = (408, 429, 502, 503, 504)
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


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


class Connection:
    """One server, asked again where that may help."""

    def __init__(self, http: httpx2.Client, give_up_s: float, sleep: Callable[[float], None]) -> None:
        """Nothing is connected yet.

        Args:
            http: with the server's address and the API key.
            give_up_s: a request is repeated until so long after the first try.
            sleep: waits.
        """
        self.http = http
        self.sleep = sleep
        self._give_up_s = give_up_s

    def get(self, kind: type[View], path: str, query: dict[str, Any] | None = None) -> View:
        """Raises ApiError."""
        return parsed(kind, self.patiently(lambda: self.http.get(path, params=query)))

    def get_list(self, kind: type[View], path: str, query: dict[str, Any] | None = None) -> list[View]:
        """Raises ApiError."""
        return _read(TypeAdapter(list[kind]), self.patiently(lambda: self.http.get(path, params=query)))  # type: ignore[valid-type]

    def post(self, view: type[View], path: str, /, **body: object) -> View:
        """Send what is not None as JSON.

        Raises:
            ApiError
        """
        said = {name: value for name, value in body.items() if value is not None}
        return parsed(view, self.patiently(lambda: self.http.post(path, json=said)))

    @contextmanager
    def opened(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> Iterator[httpx2.Response]:
        """An answer that is read as it comes.

        Raises:
            ApiError: the server refused.
            httpx2.TransportError: it is away, or went away while it was read.
        """
        with self.http.stream("GET", path, params=query, headers=headers) as answer:
            if answer.status_code != httpx2.codes.OK:
                answer.read()
                raise _error(answer)
            yield answer

    def once(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        """The answer to a request that must not be sent twice.

        Raises:
            ApiError
        """
        try:
            answer = send()
        except httpx2.TransportError as error:
            raise ApiError(f"the server does not answer: {error}", 0) from error
        if not answer.is_success:
            raise _error(answer)
        return answer

    def patiently(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
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
            self.sleep(wait_s)
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


def is_passing(error: ApiError) -> bool:
    """Whether the same request may be answered later."""
    return error.status == 0 or error.status in _WORTH_ANOTHER_TRY


def parsed(kind: type[View], answer: httpx2.Response) -> View:
    """Raises ApiError: it is no such answer."""
    return _read(TypeAdapter(kind), answer)


def _read(kind: TypeAdapter[Parsed], answer: httpx2.Response) -> Parsed:
    try:
        return kind.validate_json(answer.content)
    except ValidationError as error:
        raise ApiError(f"not an answer of this API: {error}", answer.status_code) from error
