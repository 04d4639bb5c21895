"""What `benchmarks.production` and `benchmarks.rolling_restart` do with a thousand pictures, with a few."""

from pathlib import Path

import pytest

from benchmarks import production, rolling_restart
from benchmarks.production import FIRST, SECOND
from benchmarks.production_site import deployed_variables
from tests.deploy.known import metric_names

pytestmark = pytest.mark.slow


def quiet(_: str) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return production.tiny_students(tmp_path_factory.mktemp("students") / "made")


def test_from_first_start_through_a_promotion_to_a_restored_backup(students: list[Path], tmp_path: Path) -> None:
    seen = production.live_through(24, students, tmp_path, quiet)
    assert (seen.done, seen.by_version) == (24, {FIRST: 12, SECOND: 12})
    assert seen.exits == dict.fromkeys(("web-1", "beat", "worker-1", "worker-2", "trainer"), 0)
    assert seen.differences == [] and seen.check == "both stores agree"
    assert seen.rows > 3 * 24 and seen.blobs > 24
    assert seen.answered_after
    assert production.well(seen)
    workers = [seen.metrics[name] for name in ("worker-1", "worker-2")]
    assert sum(each["tamperwatch_images_total"] for each in workers) == 24
    for each in workers:
        assert [value for name, value in each.items() if name.startswith("tamperwatch_model_info") and SECOND in name] == [1]
        assert each["tamperwatch_up{redis}"] == each["tamperwatch_up{sql}"] == 1
    answered = {name: value for name, value in seen.metrics["web-1"].items() if "http_request" in name}
    assert sum(answered.values()) >= 3 and [name for name in answered if ",5" in name] == []
    assert seen.metrics["beat"]["tamperwatch_retrain_looked_timestamp_seconds"] > 0
    assert seen.metrics["trainer"]["tamperwatch_process_resident_memory_bytes"] > 0
    shown = {name.partition("{")[0] for each in seen.metrics.values() for name in each}
    assert shown - metric_names() <= {"tamperwatch_process_resident_memory_bytes"}


def test_every_role_is_restarted_under_load_without_a_failed_job_or_request(students: list[Path], tmp_path: Path) -> None:
    seen = rolling_restart.restart_all(students, tmp_path, 0, quiet)
    assert seen.problems() == []
    assert set(seen.exits) == {"web-1", "web-2", "worker-1", "worker-2", "beat", "trainer"}
    assert set(seen.answers) <= {200, 202}


def test_a_role_is_told_what_compose_and_the_image_tell_it(tmp_path: Path) -> None:
    variables = deployed_variables("worker-cpu", tmp_path, {"NIGHTS": "true"})
    assert variables["TAMPERWATCH_SCHEDULE__ENABLED"] == "true"
    assert variables["TAMPERWATCH_WORKER__SHUTDOWN_GRACE_S"] == "30"
    assert variables["TAMPERWATCH_ENGINE__MODEL_CACHE"] == str(tmp_path / "cache" / "models")
    assert variables["MALLOC_MMAP_THRESHOLD_"] == "4194304"
    assert "PATH" not in variables
