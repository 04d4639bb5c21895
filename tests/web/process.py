"""The web role as a process of its own, for tests that need a real one."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx2

from cli.children import Child
from schemas.states import Scope
from storage import api_keys
from storage.database import Database
from tests.local_servers import free_ports
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


class Web:
    """`tamperwatch web` as a process, and a key to it that may do everything."""

    def __init__(self, folder: Path, database_url: str, variables: Mapping[str, str]) -> None:
        (self.port,) = free_ports(1)
        self.address = f"http://127.0.0.1:{self.port}"
        self.database = Database(database_url)
        with self.database.write() as session:
            self.token = api_keys.create(session, "tests", [Scope.ADMIN], requests_per_minute=0).token
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | {
            "PYTHONPATH": str(ROOT),
            "TAMPERWATCH_DATABASE_URL": database_url,
            "TAMPERWATCH_TELEMETRY__LOG_FORMAT": "json",
            **{f"TAMPERWATCH_{name}": value for name, value in variables.items()},
        }
        self.log = folder / "web.log"
        self.process = Child("web", [sys.executable, "-m", "cli.main", "web", "--port", str(self.port)], self.log, self.env)
        self.headers = {"Authorization": f"Bearer {self.token}"}
        wait_for(self._ready, f"answer: {self.process.log_tail()}", 60)

    def _ready(self) -> bool:
        assert self.process.running, self.process.log_tail()
        try:
            return httpx2.get(f"{self.address}/readyz", timeout=5).status_code == 200
        except httpx2.TransportError:
            return False

    def close(self) -> None:
        self.process.stop(20)
        self.database.close()
