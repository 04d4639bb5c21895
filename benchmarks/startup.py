"""How long each production role takes from its start to ready, and the memory it then has, one role after another.

python -m benchmarks.startup --rounds 3
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.chaos_servers import chaos_servers
from benchmarks.production_site import Site

_ROLES = ("web-1", "beat", "worker-1", "trainer")


def start_once(site: Site, name: str) -> tuple[float, float]:
    """Seconds until /readyz answers 200, and resident MiB at that moment; the role is stopped again."""
    started = time.monotonic()
    site.start(name)
    site.wait_until_ready(name)
    took_s = time.monotonic() - started
    memory = site.roles[name].metrics()[("tamperwatch_process_resident_memory_bytes",)]
    site.stop(name)
    return took_s, memory / 2**20


def main() -> None:
    """Start each role a few times and print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="tamperwatch-startup-") as folder:
        place = Path(folder)
        with chaos_servers(place) as servers, Site(servers, place / "site", NIGHTS="true") as site:
            started = time.monotonic()
            site.run("migrate")
            print(f"migrate, an empty database: {time.monotonic() - started:.1f} s to its end")
            for name in _ROLES:
                took_s, memory_mib = zip(*(start_once(site, name) for _ in range(rounds)), strict=True)
                role = site.roles[name].service
                seconds, memory = statistics.median(took_s), statistics.median(memory_mib)
                print(f"{role}: ready after {seconds:.1f} s, {memory:.0f} MiB resident", flush=True)


if __name__ == "__main__":
    main()
