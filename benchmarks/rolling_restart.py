"""Every production role restarted, one process after another, while pictures come in and results are read.

    python -m benchmarks.rolling_restart --seconds 90

Two `web` processes, two `worker`s, `beat` and `trainer` as compose would run them (`benchmarks.production_site`). In front of
the two web processes is no proxy but the client itself: it goes to the other one where a connection is refused or breaks, as a
proxy would on an upload that it may repeat; uploads carry an Idempotency-Key. Every answer of either process is counted. Each
role is told to stop by SIGTERM, has the time that compose gives it, and must be ready again before the next one's turn.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx2
from sqlmodel import col, func, select

from benchmarks.chaos_servers import chaos_servers
from benchmarks.production import draw_pictures, ended, prepare, tiny_students
from benchmarks.production_site import Site
from schemas.states import JobState
from schemas.tables import AuditResult
from storage import queries
from tests.waiting import wait_for
from web.client import ApiError, TamperwatchClient

_ROLES = ("web-1", "web-2", "worker-1", "worker-2", "beat", "trainer")
_UPLOAD = 4
_MOST_WAITING = 60


@dataclass
class Seen:
    """What a run showed.

    Attributes:
        answers: of both web processes, by status.
        moved: requests that went to the other process, by what had happened to the first.
        given_up: what the client could not do at all.
        exits: of each role, the status of every process that was told to stop.
        results: of a job, how many there are: 1 for each.
    """

    answers: Counter[int] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    given_up: list[str] = field(default_factory=list)
    exits: dict[str, list[int]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    sent: int = 0
    read: int = 0
    jobs: dict[str, int] = field(default_factory=dict)
    results: Counter[int] = field(default_factory=Counter)

    def problems(self) -> list[str]:
        """What is not as it must be."""
        found = [f"{number} answers {status}" for status, number in self.answers.items() if status >= 500]
        found += self.given_up
        found += [f"{name} ended with {codes}" for name, codes in self.exits.items() if any(codes)]
        found += [f"{number} jobs {state}" for state, number in self.jobs.items() if number and state != JobState.DONE]
        if self.jobs.get(JobState.DONE) != self.sent or set(self.results) != {1}:
            found.append(f"{self.sent} pictures sent, {self.jobs} jobs, with results {dict(self.results)}")
        return found if self.sent and self.read else [*found, "no load"]


class Failover(httpx2.BaseTransport):
    """Sends to one of several servers, and to the next where a connection fails; counts what they answer."""

    def __init__(self, addresses: Sequence[str], seen: Seen) -> None:
        self._urls = [httpx2.URL(address) for address in addresses]
        self._inner = httpx2.HTTPTransport()
        self._turns = count()
        self._seen = seen

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        first = next(self._turns)
        for step in range(len(self._urls)):
            url = self._urls[(first + step) % len(self._urls)]
            request.url = request.url.copy_with(host=url.host, port=url.port)
            try:
                answer = self._inner.handle_request(request)
            except httpx2.TransportError as error:
                self._seen.moved[type(error).__name__] += 1
                broken = error
                continue
            self._seen.answers[answer.status_code] += 1
            return answer
        raise broken

    def close(self) -> None:
        self._inner.close()


class Load:
    """Uploads pictures and reads results, each in a thread, until it is told to end."""

    def __init__(self, site: Site, token: str, seen: Seen) -> None:
        """Begin."""
        self._site, self._token, self._seen = site, token, seen
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in (self._upload, self._read)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Finish the requests in hand."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[TamperwatchClient], None]) -> None:
        addresses = [self._site.web(name) for name in ("web-1", "web-2")]
        with TamperwatchClient(addresses[0], self._token, transport=Failover(addresses, self._seen), give_up_s=30) as client:
            try:
                work(client)
            except ApiError as error:
                self._seen.given_up.append(str(error))

    def _upload(self, client: TamperwatchClient) -> None:
        for number in count():
            paths = draw_pictures(self._site.folder / "pictures", range(number * _UPLOAD, (number + 1) * _UPLOAD))
            client.submit_files(paths)
            self._seen.sent += len(paths)
            # A load that the workers can follow, whatever the machine.
            while ended(self._site) < self._seen.sent - _MOST_WAITING and not self._ending.is_set():
                self._ending.wait(0.1)
            if self._ending.is_set():
                return

    def _read(self, client: TamperwatchClient) -> None:
        cursor = 0
        while not self._ending.wait(0.1):
            page = client.page(cursor)
            cursor = page.next_cursor
            self._seen.read += len(page.results)


def restart_all(students: Sequence[Path], folder: Path, seconds: float, say: Callable[[str], None]) -> Seen:
    """Start everything, put it under load, restart each role in its turn for that long, and count."""
    seen = Seen()
    place = folder / "stores"
    place.mkdir()
    with chaos_servers(place) as servers, Site(servers, place / "site", NIGHTS="true") as site:
        token = prepare(site, students)
        for name in _ROLES:
            site.start(name)
        site.wait_until_ready()
        load = Load(site, token, seen)
        try:
            wait_for(lambda: ended(site), "first result", 60)
            until = time.monotonic() + seconds
            while time.monotonic() < until or not seen.exits:
                for name in _ROLES:
                    say(f"{name}: {_restarted(site, name, seen)}")
                site.run("migrate")
        finally:
            load.end()
        wait_for(lambda: ended(site) >= seen.sent, f"end of {seen.sent} jobs", 120)
        _count(site, seen)
    return seen


def _restarted(site: Site, name: str, seen: Seen) -> str:
    """Stop a role and start it again, as its supervisor would; in words."""
    started, before = time.monotonic(), seen.sent
    status = site.stop(name)
    stopped_s = time.monotonic() - started
    site.start(name)
    site.wait_until_ready(name)
    took_s = time.monotonic() - started
    seen.exits.setdefault(name, []).append(status)
    seen.seconds.setdefault(name, []).append(took_s)
    return f"status {status} after {stopped_s:.1f} s, ready again after {took_s:.1f} s; {seen.sent - before} pictures came in"


def _count(site: Site, seen: Seen) -> None:
    with site.database.read() as session:
        seen.jobs = {state.value: number for state, number in queries.job_counts(session).items()}
        per_job = select(func.count()).where(AuditResult.profile == "none").group_by(col(AuditResult.job_id))
        seen.results = Counter(session.exec(per_job).all())


def main() -> None:
    """Run it, print what was seen, and fail where anything is not as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=90.0, help="of restarts; every role has its turn at least once")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="tamperwatch-rolling-") as folder:
        students = tiny_students(Path(folder) / "students")
        seen = restart_all(students, Path(folder), seconds, lambda line: print(line, flush=True))
    answers, moved = dict(seen.answers), dict(seen.moved)
    print(f"{seen.sent} pictures sent, {seen.read} results read meanwhile; answers {answers}, sent elsewhere {moved}")
    print(f"jobs {seen.jobs}, results a job {dict(seen.results)}, exits {seen.exits}")
    print(f"problems: {seen.problems() or 'none'}")
    sys.exit(1 if seen.problems() else 0)


if __name__ == "__main__":
    main()
