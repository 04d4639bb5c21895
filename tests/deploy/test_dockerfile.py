import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from deploy.requirements import requirements
from tests.deploy.known import DEPLOY, ROOT, setting_names

DOCKERFILE = DEPLOY / "Dockerfile"
FINAL = ("cpu", "gpu", "trainer")


@pytest.fixture(scope="module")
def steps() -> ModuleType:
    """`.ci/docker_steps.py`, which is no package's."""
    spec = importlib.util.spec_from_file_location("docker_steps", ROOT / ".ci" / "docker_steps.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["docker_steps"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines(steps: ModuleType) -> dict[str, list[tuple[str, str]]]:
    return {name: stage.lines for name, stage in steps.stages(DOCKERFILE.read_text(encoding="utf-8")).items()}


def test_hadolint_finds_nothing() -> None:
    found = subprocess.run([Path(sys.executable).parent / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("target", FINAL)
def test_a_final_image_runs_as_a_numbered_user_and_installs_nothing(lines: dict[str, list[tuple[str, str]]], target: str) -> None:
    assert lines[target][-1] == ("USER", "10001:10001")
    assert {name for name, _ in lines[target]} <= {"COPY", "ENV", "USER"}
    assert [rest for name, rest in lines[target] if name == "COPY" and not rest.startswith("--from=")] == []


def test_the_default_target_is_the_small_one(lines: dict[str, list[tuple[str, str]]]) -> None:
    assert list(lines)[-1] == "cpu"


def test_the_images_start_our_command_without_a_shell(lines: dict[str, list[tuple[str, str]]]) -> None:
    runtime = dict(lines["runtime"])
    assert json.loads(runtime["ENTRYPOINT"]) == ["tamperwatch"]
    assert runtime["STOPSIGNAL"] == "SIGTERM"
    assert "org.opencontainers.image.licenses" in runtime["LABEL"]


def test_all_packages_are_pinned_and_no_registry_is_named(lines: dict[str, list[tuple[str, str]]]) -> None:
    runs = [rest for stage in lines.values() for name, rest in stage if name == "RUN"]
    installs = [rest for rest in runs if re.search(r"-m pip( --python \S+)? install", rest)]
    assert len(installs) == 5
    pinned = ("--constraint constraints.txt", "--require-hashes", "--no-index")
    assert [rest for rest in installs if not any(option in rest for option in pinned)] == []
    assert re.findall(r"https?://(?!127\.0\.0\.1)\S+", DOCKERFILE.read_text(encoding="utf-8")) == []


def test_every_variable_of_the_images_is_a_setting(lines: dict[str, list[tuple[str, str]]]) -> None:
    given = {each.split("=")[0] for stage in lines.values() for name, rest in stage if name == "ENV" for each in rest.split()}
    ours = {name for name in given if name.startswith("TAMPERWATCH_")}
    assert ours and ours - setting_names() == set()


def test_the_context_holds_every_room_of_the_wheel_and_nothing_else(steps: ModuleType) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    sent = steps.context_files()
    tops = {path.parts[0] for path in sent}
    files = {"pyproject.toml", "hatch_build.py", "constraints.txt", "README.md", "LICENSE", "LICENSE-weights"}
    assert tops == {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], *files}
    of_deploy = {"__init__.py", "requirements.py", "hashes-cpu.txt", "migrations"}
    assert {path.parts[1] for path in sent if path.parts[0] == "deploy"} == of_deploy
    assert [path for path in sent if path.suffix == ".pyc" or "node_modules" in path.parts or "static" in path.parts] == []


def test_requirements_are_the_packages_own_and_those_of_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    base, web = requirements([]), requirements(["web"])
    assert [each for each in base if each.startswith("celery")] != []
    assert web[: len(base)] == base and [each for each in web[len(base) :] if each.startswith("uvicorn")] != []
    assert [each for each in web if each.startswith("torch")] == []
    with pytest.raises(KeyError):
        requirements(["no-such-extra"])


@pytest.fixture
def answering() -> Iterator[tuple[HTTPServer, list[int]]]:
    """A server on a free port whose /healthz answers with the status at the end of the list."""
    statuses = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses[-1] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server, statuses
        server.shutdown()
        thread.join()


def test_the_health_check_tells_well_from_unwell_past_any_proxy(
    lines: dict[str, list[tuple[str, str]]], answering: tuple[HTTPServer, list[int]]
) -> None:
    server, statuses = answering
    check = json.loads(dict(lines["runtime"])["HEALTHCHECK"].partition("CMD ")[2])
    assert check[0] == "python"
    variables = os.environ | {"TAMPERWATCH_TELEMETRY__PORT": str(server.server_port), "http_proxy": "http://127.0.0.1:9"}
    run = [sys.executable, *check[1:]]
    assert subprocess.run(run, env=variables, check=False).returncode == 0
    statuses.append(503)
    assert subprocess.run(run, env=variables, check=False).returncode == 1
