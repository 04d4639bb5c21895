"""The commands that measure delivery still run, on a few small pictures; their figures mean nothing here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import load, peers, throughput
from benchmarks.ceiling import Pace
from benchmarks.naive_run import naive_rate
from benchmarks.ours import Load, OurStack, bench_settings
from benchmarks.peer_run import litserve_rate
from benchmarks.pictures import SAMPLES, write_jpegs
from benchmarks.queue_length import drained
from benchmarks.throughput import Round
from cli.stack import EmbeddedStack
from model import preprocess
from model.card import builtin_directory
from tests.servers import S3Server, new_postgres_database


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_jpegs(SAMPLES, tmp_path_factory.mktemp("pictures"), 100, megapixels=0.01)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[OurStack]:
    with EmbeddedStack(tmp_path / "stack", bench_settings()) as stack:
        yield OurStack(stack)


def test_every_picture_is_another_one_and_can_be_decoded(paths: list[Path]) -> None:
    assert len({path.read_bytes() for path in paths}) == len(paths) == 100
    prepared = preprocess.prepare(paths[-1].read_bytes(), 32)
    assert 9_000 < prepared.width_px * prepared.height_px < 11_000


def test_the_summary_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    load = Load(rate=48.0, cpu_ms=40.5, batch_share=0.97, peak_mb=400.0)
    throughput.print_summary([Round(Pace(60, 33), Pace(50, 39), 6, load, 16, 0.3, 0.6)] * 2)
    printed = capsys.readouterr().out
    figures = {"pipeline / engine": "0.80", "pipeline / ceiling": "0.96", "pipeline / naive": "3.00"}
    figures |= {"pipeline / ceiling by CPU": "0.96"}
    figures |= {"inference": "33.00", "decode": "6.00", "overhead": "1.50", "mean batch": "0.97", "of 2 x (deadline": "0.50"}
    for name, figure in figures.items():
        assert any(name in line and f" {figure} " in line for line in printed.splitlines()), name


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["peers", "--count", "1", "--megapixels", "0.01", "--peers", "ray serve", "litserve"])
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(peers, "_ours", lambda *_: 10.0)
    peers.main()
    printed = capsys.readouterr().out
    assert "ray serve is not installed and was left out: pip install 'ray[serve]'" in printed
    assert "litserve is not installed and was left out: pip install 'tamperwatch[bench]'" in printed
    assert "ours" in printed


@pytest.mark.slow
def test_ours_is_measured_under_load_and_paced(stack: OurStack, paths: list[Path]) -> None:
    load = stack.under_load(paths)
    assert load.rate > 0
    assert 0 < load.cpu_ms < 10_000
    assert 0 < load.batch_share <= 1
    latencies_s = stack.latencies_s(paths[:8], rate=20)
    assert len(latencies_s) == 8
    assert 0 < latencies_s[0] <= latencies_s[-1] < 60


@pytest.mark.slow
@pytest.mark.parametrize("app", ["naive", "celery_batches_app"])
def test_other_celery_workers_are_measured(app: str, paths: list[Path], tmp_path: Path) -> None:
    assert naive_rate(paths[:40], tmp_path / app, 1, engine="openvino", app=app) > 0


@pytest.mark.slow
def test_litserve_is_measured(paths: list[Path], tmp_path: Path) -> None:
    assert litserve_rate(paths[:40], tmp_path / "litserve", 1, builtin_directory()) > 0


@pytest.mark.slow
def test_a_queue_is_drained_on_real_servers(postgres_url: str, broker_url: str, tmp_path: Path) -> None:
    with new_postgres_database(postgres_url) as database_url:
        measured = drained(60, database_url, broker_url, tmp_path / "queue")
    assert measured.length == 60
    assert min(measured.wall_ms, measured.cpu_ms, measured.warm_mb, measured.end_mb) > 0


@pytest.mark.slow
@pytest.mark.parametrize("student", ["no-op", "224"])
def test_a_load_goes_through_all_servers(
    student: str, postgres_url: str, broker_url: str, s3_server: S3Server, tmp_path: Path
) -> None:
    with new_postgres_database(postgres_url) as database_url:
        measured = load.under_load(60, 0.01, student, load.settings_for(database_url, broker_url, s3_server), tmp_path / "load")
    assert measured.problems == []
    assert measured.drained.length == 60
    assert min(measured.kb, measured.submit_ms, measured.drained.wall_ms, measured.drained.cpu_ms) > 0
