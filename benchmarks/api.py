"""How fast the HTTP API takes pictures in and gives results out, beside bare FastAPI on the same machine in the same run.

    python -m benchmarks.api [--blobs directory|s3] [--processes 1] [--rounds 3] [--json FILE]

Real Redis (with its append-only file) and PostgreSQL (from the wheel of the tests, without fsync: this is no measure of its
disk), blobs in a directory or in SeaweedFS, `tamperwatch web` as a process, a lean client over loopback. In each round, in turn:

results   all results through `GET /v1/results?cursor=`, 500 a page, one reader
uploads   one small picture a request, over eight connections
batches   sixteen of them a request

each beside the same from an echo: FastAPI that sends a ready page, or reads the form and forgets it. CPU time a picture or
result, by process, says what limits the rate: a machine with C cores has C seconds of CPU a second, and the client takes its
part. "On its own" is what the cores would give if nothing else ran on them, the client included: cores / CPU time.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from benchmarks.api_site import Site, running_site
from benchmarks.http_load import Connection, drain, get, upload
from benchmarks.pictures import SAMPLES, numbered, write_jpegs

_PAGE = 500
_BATCH = 16
_CONNECTIONS = 8
_WAYS = ("results", "uploads", "batches")


@dataclass(frozen=True)
class Measured:
    """One way in one round.

    Attributes:
        rate: pictures or results a second.
        cpu_us: CPU time a picture or result in microseconds, by process.
    """

    rate: float
    cpu_us: dict[str, float]

    @property
    def alone(self) -> float:
        """A second, if the cores had nothing else to do."""
        return (os.cpu_count() or 1) * 1e6 / sum(self.cpu_us.values())


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tamperwatch-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        pictures = [path.read_bytes() for path in write_jpegs(SAMPLES, folder / "pictures", 16, 0.05)]
        size_kb = statistics.mean(map(len, pictures)) / 1e3
        print(f"pictures of {size_kb:.0f} kB, {options.results} results, blobs: {options.blobs}, {os.cpu_count()} cores")
        with running_site(folder, options.blobs, options.processes, options.results, _PAGE) as site:
            rounds = [_round(site, pictures, options.results, options.uploads, number) for number in range(1, options.rounds + 1)]
    for way in _WAYS:
        _print(way, rounds)
    if options.json:
        found = [{way: asdict(measured) for way, measured in each.items()} for each in rounds]
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _round(site: Site, pictures: list[bytes], n_results: int, n_uploads: int, number: int) -> dict[str, Measured]:
    """Every way once, ours and the echo in turn; the bytes of every picture that is sent are new."""
    pages = -(-n_results // _PAGE)
    page = get("/v1/results", site.token)
    found = {
        "results": _measured(site, n_results, lambda: _read_all(site, n_results)),
        "results, echo": _measured(site, n_results, lambda: drain([site.echo_port], [page] * pages, 1, 200)),
    }
    for way, batch in (("uploads", 1), ("batches", _BATCH)):
        first = (number * len(_WAYS) + batch) * 1_000_000
        sent = [numbered(pictures[index % len(pictures)], first + index) for index in range(n_uploads)]
        requests = [upload("/v1/audits", site.token, sent[at : at + batch]) for at in range(0, n_uploads, batch)]
        for name, ports in ((way, site.ports), (f"{way}, echo", [site.echo_port])):
            found[name] = _measured(site, n_uploads, partial(drain, ports, requests, _CONNECTIONS, 202))
    return found


def _read_all(site: Site, n_results: int) -> None:
    """From the first cursor to the last."""
    connection, cursor, seen, more = Connection(site.ports[0]), 0, 0, True
    while more:
        page = json.loads(connection.ask(get(f"/v1/results?cursor={cursor}&limit={_PAGE}", site.token)).body)
        cursor, more, seen = page["next_cursor"], page["more"], seen + len(page["results"])
    connection.close()
    if seen != n_results:
        raise RuntimeError(f"{seen} of {n_results} results were read")


def _measured(site: Site, count: int, run: Callable[[], object]) -> Measured:
    before, began_s = site.cpu_s(), os.times().elapsed
    run()
    seconds, after = os.times().elapsed - began_s, site.cpu_s()
    return Measured(count / seconds, {name: 1e6 * (after[name] - before[name]) / count for name in after})


def _print(way: str, rounds: list[dict[str, Measured]]) -> None:
    """One way: its rate beside the echo's, and who spent the CPU."""
    ours, echo = ([each[name] for each in rounds] for name in (way, f"{way}, echo"))
    rate, alone = statistics.median(each.rate for each in ours), statistics.median(each.alone for each in ours)
    beside = statistics.median(each.rate for each in echo)
    print(f"\n{way}: {rate:,.0f}/s; echo {beside:,.0f}/s, ratio {rate / beside:.3f}; on its own {alone:,.0f}/s")
    total = sum(statistics.median(each.cpu_us[name] for each in ours) for name in ours[0].cpu_us)
    for name in sorted(ours[0].cpu_us, key=lambda name: -ours[0].cpu_us[name]):
        us = statistics.median(each.cpu_us[name] for each in ours)
        if us >= total / 100:
            print(f"  {name:<10} {us:8,.0f} µs of CPU each, {us / total:4.0%}")
    print(f"  echo       {statistics.median(each.cpu_us['echo'] for each in echo):8,.0f} µs of CPU each, where it does the same")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blobs", choices=("directory", "s3"), default="directory")
    parser.add_argument("--processes", type=int, default=1, help="of the web role, on ports of their own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=int, default=10_000, help="in the store")
    parser.add_argument("--uploads", type=int, default=1600, help="pictures sent, each way and round")
    parser.add_argument("--json", type=Path, help="write the rounds there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
