import re
import threading
import uuid
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from prometheus_client import generate_latest

from schemas.messages import AuditMessage
from schemas.states import Verdict
from storage import telemetry
from storage.telemetry import REGISTRY
from storage.telemetry_drift import CARD_FIELD
from tests.storage.conftest import MakeResult

MESSAGE = AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source="a.jpg")


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"tamperwatch_{name}", labels) or 0.0


@pytest.fixture
def added() -> Callable[..., float]:
    """How much a sample has grown since it was first asked for."""
    before: dict[tuple[str, ...], float] = {}

    def grown(name: str, **labels: str) -> float:
        found = value(name, **labels)
        return found - before.setdefault((name, *labels.values()), found)

    return grown


Added = Callable[..., float]


def test_every_name_is_ours_and_every_help_says_something() -> None:
    text = generate_latest(REGISTRY).decode()
    families = re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE)
    assert len(families) > 20
    assert {name for name, words in families if not name.startswith("tamperwatch_") or len(words) < 10} == set()


def test_a_stage_is_timed_also_when_it_raises(added: Added, monkeypatch: pytest.MonkeyPatch) -> None:
    added("stage_seconds_count", stage="fetch"), added("stage_seconds_sum", stage="fetch")
    clock = iter((10.0, 10.5, 20.0, 20.25))
    monkeypatch.setattr("storage.telemetry.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with telemetry.stage("fetch"):
        pass
    with pytest.raises(ValueError), telemetry.stage("fetch"):
        raise ValueError
    assert added("stage_seconds_count", stage="fetch") == 2
    assert added("stage_seconds_sum", stage="fetch") == pytest.approx(0.75)


def test_an_unknown_stage_is_a_defect_not_a_new_series() -> None:
    with pytest.raises(KeyError), telemetry.stage("anything a producer sends"):
        pass


def test_a_job_counts_as_in_hand_and_as_activity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry.ACTIVITY, "moved_at_s", 0.0)
    before = value("jobs_in_hand")
    with telemetry.job(MESSAGE):
        assert value("jobs_in_hand") == before + 1
        assert telemetry.ACTIVITY.moved_at_s > 0
        telemetry.ACTIVITY.moved_at_s = 0.0
    assert value("jobs_in_hand") == before
    assert telemetry.ACTIVITY.moved_at_s > 0


def test_only_later_attempts_are_redeliveries(added: Added) -> None:
    added("redeliveries_total")
    telemetry.claimed(1)
    assert added("redeliveries_total") == 0
    telemetry.claimed(2)
    assert added("redeliveries_total") == 1


def test_one_picture_counts_once_whatever_its_profiles(added: Added, new_result: MakeResult) -> None:
    names = [("images_total", {}), ("results_total", {"verdict": "flag"}), ("results_total", {"verdict": "pass"})]
    names += [("score_ratio_count", {}), ("score_ratio_bucket", {"le": "0.9"}), ("score_ratio_bucket", {"le": "0.85"})]
    for name, labels in names:
        added(name, **labels)
    own = new_result(uuid.uuid4(), score=0.88, verdict=Verdict.FLAG)
    telemetry.done([own, new_result(own.job_id, "wechat", score=0.1, verdict=Verdict.PASS)])
    assert [added(name, **labels) for name, labels in names] == [1, 1, 0, 1, 1, 0]


def test_drift_is_told_from_scores_of_the_version_in_use(new_result: MakeResult) -> None:
    telemetry.model_loaded("m1", "openvino", "cpu", {CARD_FIELD: [250] * 4})
    for version in ("m0", "m1"):
        for _ in range(199):
            telemetry.done([new_result(uuid.uuid4(), score=0.9, model_version=version)])
    assert telemetry.DRIFT.index() is None
    telemetry.done([new_result(uuid.uuid4(), score=0.9, model_version="m1")])
    assert value("score_psi_ratio", reference="card") > 0.25


def test_an_answer_from_the_store_counts_without_its_score(added: Added) -> None:
    names = [
        ("images_total", {}),
        ("results_total", {"verdict": "review"}),
        ("reused_results_total", {}),
        ("score_ratio_count", {}),
    ]
    for name, labels in names:
        added(name, **labels)
    telemetry.reused(Verdict.REVIEW)
    assert [added(name, **labels) for name, labels in names] == [1, 1, 1, 0]


@pytest.mark.parametrize(
    ("final", "mendable", "grown"), [(True, False, [1, 1, 0, 0]), (True, True, [1, 1, 1, 0]), (False, True, [0, 0, 0, 1])]
)
def test_a_failure_is_an_end_a_dead_letter_or_a_retry(added: Added, final: bool, mendable: bool, grown: list[int]) -> None:
    names = [("images_total", {})] + [(f"{name}_total", {"code": "x"}) for name in ("failures", "dead_letters", "retries")]
    for name, labels in names:
        added(name, **labels)
    telemetry.failed("x", final, mendable)
    assert [added(name, **labels) for name, labels in names] == grown


def test_a_batch_has_a_size_a_wait_and_a_time(added: Added) -> None:
    device = {"batcher": "device"}
    names = [
        ("batch_size_sum", device),
        ("batch_size_count", device),
        ("batch_wait_seconds_sum", device),
        ("batch_run_seconds_sum", device),
        ("stage_seconds_count", {"stage": "wait"}),
        ("stage_seconds_sum", {"stage": "wait"}),
        ("stage_seconds_count", {"stage": "infer"}),
    ]
    for name, labels in names:
        added(name, **labels)
    telemetry.batch_ran("device", [0.03, 0.02, 0.01], 0.5)
    assert [added(name, **labels) for name, labels in names] == pytest.approx([3, 1, 0.03, 0.5, 3, 0.06, 1])


def test_a_batch_of_the_store_is_no_stage_of_a_picture(added: Added) -> None:
    added("stage_seconds_count", stage="infer"), added("batch_size_count", batcher="store")
    telemetry.batch_ran("store", [0.03], 0.5)
    assert (added("stage_seconds_count", stage="infer"), added("batch_size_count", batcher="store")) == (0, 1)


def test_one_model_at_a_time_is_named() -> None:
    telemetry.model_loaded("student-8", "openvino", "cpu", {})
    telemetry.model_loaded("student-9", "torch", "cuda:0", {})
    (family,) = [each for each in REGISTRY.collect() if each.name == "tamperwatch_model_info"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"version": "student-9", "engine": "torch", "device": "cuda:0"}, 1)
    ]
    assert telemetry.ACTIVITY.model_version == "student-9"


def test_threads_lose_no_count(added: Added) -> None:
    added("retries_total", code="threads")
    threads = [threading.Thread(target=lambda: [telemetry.failed("threads", False, True) for _ in range(500)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert added("retries_total", code="threads") == 4000
