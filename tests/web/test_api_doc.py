"""docs/api.md, run as it stands: its commands and its Python, against a web process and a worker."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.children import Child
from schemas.states import Scope
from storage import api_keys
from tests.pictures import picture_bytes
from tests.web.process import ROOT, Web
from web.signatures import signature

pytestmark = pytest.mark.slow
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_REFUSED_WEBHOOK = '"code":"url_refused"'


def blocks() -> list[tuple[str, str]]:
    return _BLOCK.findall((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))


@pytest.fixture
def web(tmp_path: Path, sqlite_url: str, broker_url: str) -> Iterator[Web]:
    variables = {
        "BLOBS__DIRECTORY": str(tmp_path / "blobs"),
        "BROKER_URL": broker_url,
        "ENGINE__THREADS": "1",
        "WORKER__MAX_BATCH": "2",
    }
    made = Web(tmp_path, sqlite_url, variables)
    worker = Child("worker", [sys.executable, "-m", "cli.main", "worker"], tmp_path / "worker.log", made.env)
    yield made
    worker.stop(20)
    made.close()


def test_the_document_runs_as_it_stands(web: Web, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    for seed, name in enumerate(("a.jpg", "b.jpg"), 1):
        (folder / name).write_bytes(picture_bytes(seed))
    with web.database.write() as session:
        token = api_keys.create(session, "reader of the document", [Scope.SUBMIT, Scope.READ, Scope.REVIEW]).token
    path = f"{Path(sys.executable).parent}:{web.env['PATH']}"
    env = web.env | {"API": web.address, "TAMPERWATCH_API_KEY": token, "ADMIN_KEY": web.token, "PATH": path}
    shown = []
    for kind, code in blocks():
        argv = ["bash", "-euo", "pipefail", "-c", code] if kind == "sh" else [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        shown.append(done.stdout)
    assert '"name":"a.jpg"' in shown[0] and '"state":"queued"' in shown[1]
    assert shown[2].startswith("a.jpg id=")
    assert shown[3].rstrip().endswith("304")
    assert "event: result" in shown[4]
    assert _REFUSED_WEBHOOK in shown[5]  # nobody allowed that host here
    assert "0 failed or refused" in shown[7] and '"image":"a.jpg"' in shown[7]
    assert (folder / "1.png").is_file() and (folder / "mask.png").read_bytes() == (folder / "1.png").read_bytes()


def test_the_receiver_of_the_document_takes_a_delivery_once_and_no_other() -> None:
    (code,) = [code for kind, code in blocks() if kind == "python" and "def receive" in code]
    names: dict[str, object] = {}
    exec(compile(code, "docs/api.md", "exec"), names)
    receive = names["receive"]
    assert callable(receive)
    import time

    secret, body, at_s = "whsec_" + "A" * 44, b'{"data": {"verdict": "flag"}}', int(time.time())
    headers = {"webhook-id": "1", "webhook-timestamp": str(at_s), "webhook-signature": signature(secret, "1", at_s, body)}
    seen: set[str] = set()
    assert [receive(secret, headers, body, seen) for _ in range(2)] == [204, 204]
    assert (seen, receive(secret, headers, body + b" ", seen)) == ({"1"}, 400)
