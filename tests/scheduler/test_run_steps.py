"""What the last step decides, and what the others hand on; trained for real in `tests/integration/test_night`."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from model.card import Card, builtin_directory
from scheduler import run_steps
from scheduler.bench import After, Bench
from scheduler.frozen_manifest import ManifestEntry, freeze
from scheduler.gathering import manifest_key
from scheduler.run_steps import LiveChanged, take
from schemas.errors import BlobCorrupt, InvalidInput
from schemas.learning_settings import PromotionSettings, SelectionSettings
from schemas.learning_tables import RetrainRun
from schemas.retrain_settings import RetrainSettings
from schemas.settings import BlobSettings, Settings
from schemas.states import ModelAction, ModelStage, RetrainState, RetrainTrigger
from storage import leases, registry, runs
from storage.blobs import open_blob_store
from storage.canonical import digest
from storage.database import Database
from tests.nights import annotate
from tests.scheduler.made import scored, sha, student

CARD = Card.load(builtin_directory())


@pytest.fixture
def bench(sqlite: Database, tmp_path: Path) -> Bench:
    """On a store whose live model is the shipped one and whose candidate is called so."""
    settings = Settings(
        blobs=BlobSettings(directory=tmp_path / "blobs"),
        selection=SelectionSettings(least_new=4, least_tampered=3, least_authentic=3, holdout_share=0.3, tuning_share=0.25),
        promotion=PromotionSettings(least_tampered=2, least_authentic=2, least_clusters=2),
        retrain=RetrainSettings(folder=str(tmp_path)),
    )
    with sqlite.write() as session:
        held = leases.acquire(session, runs.LEASE, "test", 60.0)
        registry.ensure_live(session, CARD.version, CARD.model_dump(mode="json"), registry.PACKAGE_LOCATION)
        registry.register(session, "candidate", {}, "nowhere", "tester", "test")
    assert held is not None

    def trainer() -> Any:
        raise AssertionError("no step here trains")

    return Bench(sqlite, open_blob_store(settings.blobs), settings, trainer, tmp_path / "run", lambda *_, **__: None, held)


def write(bench: Bench, run_id: uuid.UUID, after: After) -> RetrainRun:
    """As the run does it."""
    with bench.database.write() as session:
        if after.also:
            after.also(session)
        run = runs.move(session, bench.held, run_id, after.state, **after.changes)
        session.expunge(run)
    return run


def begin(bench: Bench) -> RetrainRun:
    with bench.database.write() as session:
        run, _ = runs.begin(session, RetrainTrigger.MANUAL)
        session.expunge(run)
    return run


def evaluating(bench: Bench, monkeypatch: pytest.MonkeyPatch, better: bool = True) -> RetrainRun:
    """A run whose candidate was measured with these figures."""
    pictures = [scored(number, tampered=number % 2 == 1, f1=0.3) for number in range(80)]
    gain = 0.3 if better else -0.2
    ours = [each.model_copy(update={"f1": {name: value + gain for name, value in each.f1.items()}}) for each in pictures]
    scores = student(ours, "candidate"), student(pictures, CARD.version)
    monkeypatch.setattr(run_steps, "folder_of", lambda row, *_: Path(row.version))
    monkeypatch.setattr(run_steps.Judge, "measure", lambda *_: scores)
    data = freeze([], seed=1, last_annotation_id=0, parent_version=CARD.version, ledger_sha256="0" * 64)
    bench.blobs.put(manifest_key(digest(data)), data)
    run = begin(bench)
    named = {"manifest_sha256": digest(data), "manifest_key": manifest_key(digest(data)), "candidate_version": "candidate"}
    for state in (RetrainState.SELECTING, RetrainState.TEACHING, RetrainState.TRAINING, RetrainState.EVALUATING):
        run = write(bench, run.id, After(state, named | {"teacher_id": "grabcut"}))
    return run


def stage_of(bench: Bench, version: str) -> tuple[ModelStage, list[ModelAction]]:
    with bench.database.read() as session:
        made = [each.action for each in registry.decisions(session, version)]
        return registry.get(session, version).stage, made


def test_a_better_candidate_goes_live_in_the_transaction_that_ends_the_run(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluating(bench, monkeypatch)
    ended = write(bench, run.id, take(run, bench))
    assert ended.state is RetrainState.PROMOTED
    assert ended.reason.startswith("Promoted: on 40 held-out pictures pixel F1 went from .300 to .600")
    assert stage_of(bench, "candidate") == (ModelStage.LIVE, [ModelAction.REGISTER, ModelAction.PROMOTE])
    assert ended.figures["measured"]["candidate"]["f1"]["none"] == pytest.approx(0.6)
    assert bench.blobs.exists(ended.figures["files"]["scores"])
    with bench.database.read() as session:
        (_, decided) = registry.decisions(session, "candidate")
        assert (decided.run_id, decided.from_version, decided.reason) == (run.id, CARD.version, ended.reason)


def test_a_worse_candidate_is_rejected_and_the_live_one_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluating(bench, monkeypatch, better=False)
    ended = write(bench, run.id, take(run, bench))
    assert (ended.state, "surely worse" in ended.reason) == (RetrainState.REJECTED, True)
    assert stage_of(bench, "candidate")[1] == [ModelAction.REGISTER, ModelAction.REJECT]
    assert stage_of(bench, CARD.version)[0] is ModelStage.LIVE


def test_where_a_person_is_asked_the_candidate_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.settings.retrain.promote = "ask"
    run = evaluating(bench, monkeypatch)
    ended = write(bench, run.id, take(run, bench))
    assert (ended.state, "models promote candidate" in ended.reason) == (RetrainState.PROPOSED, True)
    assert stage_of(bench, "candidate") == (ModelStage.CANDIDATE, [ModelAction.REGISTER])


def test_a_decision_against_a_model_that_is_live_no_more_is_not_taken(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluating(bench, monkeypatch)
    after = take(run, bench)
    with bench.database.write() as session:
        registry.register(session, "by hand", {}, "nowhere", "tester", "test")
        registry.promote(session, "by hand", "tester", "test")
    with pytest.raises(LiveChanged, match="by hand is live"):
        write(bench, run.id, after)
    assert stage_of(bench, "candidate") == (ModelStage.CANDIDATE, [ModelAction.REGISTER])


def test_figures_that_are_no_numbers_reach_no_database(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    run = evaluating(bench, monkeypatch)
    measured = run_steps.Judge.measure(None, None, None, None)  # type: ignore[arg-type]
    broken = measured[0].model_copy(update={"parity": None, "ms_per_picture": float("inf")})
    monkeypatch.setattr(run_steps.Judge, "measure", lambda *_: (broken, measured[1]))
    ended = write(bench, run.id, take(run, bench))
    assert (ended.state, ended.figures["measured"]["candidate"]["ms_per_picture"]) == (RetrainState.REJECTED, None)


def test_how_far_is_read_and_from_whom_is_fixed_first(bench: Bench) -> None:
    annotate(bench.database, bench.blobs, range(4))
    run = write(bench, begin(bench).id, take(begin(bench), bench))
    assert (run.state, run.last_annotation_id, run.parent_version) == (RetrainState.SELECTING, 4, CARD.version)
    assert run.code_version and "holdout_salt" not in run.config["selection"]
    ended = write(bench, run.id, take(run, bench))
    assert (ended.state, "it takes" in ended.reason) == (RetrainState.SKIPPED, True)


def test_a_manifest_is_frozen_and_the_same_after_a_kill(bench: Bench) -> None:
    annotate(bench.database, bench.blobs, range(40))
    run = write(bench, begin(bench).id, take(begin(bench), bench))
    first = take(run, bench)
    annotate(bench.database, bench.blobs, range(100, 110))
    bench.settings.selection.holdout_share = 0.9  # counts from the next run on
    again = write(bench, run.id, take(run, bench))
    assert again.manifest_sha256 == first.changes["manifest_sha256"]
    assert sum(again.figures["selection"]["taken"].values()) == 40
    bench.blobs.delete(again.manifest_key or "")
    bench.blobs.put(again.manifest_key or "", b"{}\n")
    with pytest.raises(BlobCorrupt, match="was frozen as"):
        bench.manifest(again)


def test_a_run_goes_on_under_the_settings_it_began_with(bench: Bench) -> None:
    bench.settings.retrain.lr_head, bench.settings.selection.holdout_salt = 0.5, "a secret"
    run = write(bench, begin(bench).id, take(begin(bench), bench))
    bench.settings.retrain.lr_head, bench.settings.retrain.device = 0.1, "cuda:1"
    bench.settings.promotion.least_gain = 0.3
    then = bench.settings_of(run)
    assert (then.retrain.lr_head, then.retrain.device) == (0.5, "cuda:1")
    assert (then.promotion.least_gain, then.selection.holdout_salt) == (PromotionSettings().least_gain, "a secret")


def test_without_a_live_model_there_is_nothing_to_train_on_from(sqlite: Database, bench: Bench) -> None:
    with sqlite.write() as session:
        live = registry.live(session)
        assert live is not None
        live.stage = ModelStage.RETIRED
        session.add(live)
    with pytest.raises(InvalidInput, match="no model is live"):
        take(begin(bench), bench)


def test_true_masks_measure_but_never_teach() -> None:
    entry = ManifestEntry(sha256=sha("a"), tampered=True, origin="base", role="holdout", cluster="c")
    assert not run_steps._has_mask(entry, {})
