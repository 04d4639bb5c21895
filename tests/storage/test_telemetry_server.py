import contextlib
import json
import socket
from collections.abc import Iterator

import pytest
import urllib3
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from schemas.errors import EnvironmentMissing
from schemas.settings import TelemetrySettings
from storage.telemetry_health import Health
from storage.telemetry_server import serve_telemetry
from tests.local_servers import free_ports


class Answers:
    """Checks that can be told what to find."""

    def __init__(self) -> None:
        self.problem = ""

    def __call__(self) -> str:
        if self.problem:
            raise RuntimeError(self.problem)
        return "fine"


class Extra(Collector):
    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("tamperwatch_extra", "Of one role only", value=7)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def base(answers: Answers) -> Iterator[str]:
    (port,) = free_ports(1)
    health = Health("tester", {"a": lambda: "alive"}, {"b": answers})
    with serve_telemetry(TelemetrySettings(port=port), health, [Extra()]) as served:
        assert served == port
        yield f"http://127.0.0.1:{port}"


def get(url: str) -> urllib3.BaseHTTPResponse:
    return urllib3.request("GET", url, retries=False, timeout=10)


def test_metrics_are_served_as_prometheus_reads_them(base: str) -> None:
    answer = get(f"{base}/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    lines = answer.data.decode().splitlines()
    assert "tamperwatch_extra 7.0" in lines
    assert any(line.startswith("tamperwatch_process_resident_memory_bytes ") for line in lines)


def test_health_has_a_status_and_a_reason(base: str, answers: Answers) -> None:
    assert (get(f"{base}/healthz").status, get(f"{base}/readyz").status) == (200, 200)
    answers.problem = "no model"
    answer = get(f"{base}/readyz")
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/json")
    report = json.loads(answer.data)
    assert (report["ok"], report["role"], report["parts"]["b"]["words"]) == (False, "tester", "no model")
    assert get(f"{base}/healthz").status == 200
    answers.problem = ""
    assert get(f"{base}/readyz").status == 200


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz2", "/../etc/passwd"])
def test_other_paths_are_not_there(base: str, path: str) -> None:
    assert get(f"{base}{path}").status == 404


def test_a_silent_client_keeps_nobody_waiting(base: str) -> None:
    host, _, port = base.removeprefix("http://").partition(":")
    with contextlib.closing(socket.create_connection((host, int(port)))):
        assert get(f"{base}/healthz").status == 200


def test_no_port_serves_nothing() -> None:
    with serve_telemetry(TelemetrySettings(), Health("tester", {}, {})) as served:
        assert served == 0


def test_a_port_that_is_taken_is_named_with_its_cure() -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as holder:
        port = holder.getsockname()[1]
        taken = serve_telemetry(TelemetrySettings(port=port), Health("tester", {}, {}), [Extra()])
        with pytest.raises(EnvironmentMissing, match=f"127.0.0.1:{port}.*TAMPERWATCH_TELEMETRY__PORT"), taken:
            pass
    # Nothing of the first try is left that would make the second fail.
    with serve_telemetry(TelemetrySettings(port=port), Health("tester", {}, {}), [Extra()]):
        assert get(f"http://127.0.0.1:{port}/healthz").status == 200


def test_an_ipv6_address_is_served() -> None:
    with contextlib.closing(socket.socket(socket.AF_INET6)) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    with serve_telemetry(TelemetrySettings(port=port, address="::1"), Health("tester", {}, {})):
        assert get(f"http://[::1]:{port}/healthz").status == 200
