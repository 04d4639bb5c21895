"""The five steps of a retraining run. Each finds out what is to be written, and may be begun again at any time."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlmodel import Session

from model.card import Card
from scheduler.base_set import BaseSet, read_base_set
from scheduler.bench import After, Bench
from scheduler.checks import Decision
from scheduler.code_version import code_version
from scheduler.frozen_manifest import ManifestEntry
from scheduler.gathering import Gatherer, read_picture
from scheduler.judging import Judge, judged, plain, scores_file
from scheduler.students import folder_of, run_config
from scheduler.trainers import Lesson
from schemas.errors import InvalidInput
from schemas.learning_tables import RetrainRun
from schemas.states import ModelStage, RetrainState
from storage import registry, runs
from storage.annotation_queries import newest_annotation
from storage.model_files import store_student

WORKING_SET, HOLD_OUT = "working-set", "hold-out"
PICTURES: Final = (WORKING_SET, f"{HOLD_OUT}/pictures")
"""What holds copies of pictures in a run's folder; gone when the run has ended."""

_DROPPED_TOLD: Final = 500


class LiveChanged(Exception):
    """Another version was made live while the candidate was measured; it is measured again, against that one."""


def take(run: RetrainRun, bench: Bench) -> After:
    """The step that a run stands at.

    Raises:
        TamperwatchError: why the run cannot go on.
    """
    return _STEPS[run.state](run, bench)


def _begin(_run: RetrainRun, bench: Bench) -> After:
    """What may not change any more, also when the next step is begun again later: how far is read, and from whom it learns."""
    with bench.database.read() as session:
        up_to = newest_annotation(session)
    settings = bench.settings
    noted = {name: getattr(settings, name).model_dump(mode="json") for name in ("selection", "promotion", "retrain", "teacher")}
    noted["selection"].pop("holdout_salt")  # a secret
    changes = {"last_annotation_id": up_to, "parent_version": bench.live().version, "config": noted}
    return After(RetrainState.SELECTING, changes | {"code_version": code_version(), "message": "choosing what to learn from"})


def _select(run: RetrainRun, bench: Bench) -> After:
    bench.tell("reading the base set" if bench.settings.retrain.base else "choosing what to learn from")
    settings, parent = bench.settings_of(run), run.parent_version or ""
    base = read_base_set(settings.retrain.base)
    gatherer = Gatherer(bench.database, bench.blobs, base, run.last_annotation_id, run.seed, bench.limits)
    chosen, ledger = gatherer.select(parent, settings.selection, settings.promotion, bench.counting("looking at pictures"))
    figures = run.figures | {"selection": {"taken": chosen.taken, "left_out": chosen.left_out}}
    if chosen.readiness != "ready":
        return After(RetrainState.SKIPPED, {"figures": figures, "reason": chosen.account, "message": ""})
    frozen = gatherer.freeze(chosen, ledger, parent)
    named = {"manifest_sha256": frozen.sha256, "manifest_key": gatherer.keep(frozen)}
    return After(RetrainState.TEACHING, named | {"figures": figures, "message": chosen.why})


def _teach(run: RetrainRun, bench: Bench) -> After:
    """Boxes become masks, in the store. With SAM this is where torch is first loaded."""
    from model.mask_files import teacher_id
    from scheduler.teaching import Wanted, forget_unused, open_teacher, teach

    settings, base = bench.settings, read_base_set(bench.settings.retrain.base)
    bench.tell("loading the teacher")
    teacher = open_teacher(settings.teacher)
    wanted = [
        Wanted(entry.sha256, entry.boxes) for entry in bench.manifest(run).entries if entry.boxes and not _has_mask(entry, base)
    ]
    taught = teach(
        bench.database,
        bench.blobs,
        teacher,
        wanted,
        bench.counting("teacher: boxes to masks"),
        lambda: False,
        read_picture=read_picture(bench.blobs, base, bench.limits),
        limits=bench.limits,
    )
    forget_unused(bench.database, bench.blobs, settings.teacher.keep_days)
    dropped = {each.sha256: each.why for each in taught.dropped[:_DROPPED_TOLD]}
    figures = {"masks": len(taught.masks), "made": taught.made, "mean_quality": taught.mean_quality, "dropped": dropped}
    changes = {"teacher_id": teacher_id(teacher), "figures": run.figures | {"teaching": plain(figures)}}
    return After(RetrainState.TRAINING, changes | {"message": f"{len(taught.masks)} masks, {taught.made} of them new"})


def _train(run: RetrainRun, bench: Bench) -> After:
    lesson, trainer = _lesson(run, bench), bench.trainer()
    steps = run.steps_total or bench.settings_of(run).retrain.steps
    if not steps:
        steps = trainer.plan(lesson, bench.tell)
    # Written down before the first of them, so that whoever goes on makes as many.
    bench.tell(f"training: {steps} steps", at_once=True, steps_total=steps)
    folder = trainer.train(lesson, steps, bench.tell)
    card = Card.load(folder)
    bench.tell("storing the candidate", step=steps)
    location = store_student(bench.blobs, folder, card.version)
    figures = run.figures | {"training": plain(trainer.record(lesson)), "files": _kept_files(run, bench, trainer.files(lesson))}
    changes = {"candidate_version": card.version, "step": steps, "steps_total": steps, "figures": figures}

    def register(session: Session) -> None:
        reason = f"made by run {runs.short(run.id)} from {run.parent_version}"
        registry.register(session, card.version, card.model_dump(mode="json"), location, registry.OURSELVES, reason, run.id)

    return After(RetrainState.EVALUATING, changes | {"message": "measuring the candidate"}, register)


def _evaluate(run: RetrainRun, bench: Bench) -> After:
    """Against whichever version is live now; if that changes while it is measured, this step is begun again."""
    live, candidate = bench.live(), bench.version(run.candidate_version or "")
    entries, base = bench.manifest(run).of_role("holdout"), read_base_set(bench.settings.retrain.base)
    judge = Judge(
        entries,
        bench.masks(entries, run.teacher_id or ""),
        base,
        bench.blobs,
        read_picture(bench.blobs, base, bench.limits),
        bench.folder / HOLD_OUT,
        bench.limits,
        bench.settings.engine.threads,
    )
    folders = [folder_of(row, bench.blobs, bench.settings) for row in (candidate, live)]
    ours, theirs = judge.measure(folders[0], folders[1], bench.counting("measuring on held-out pictures"))
    decision, figures = judged(ours, theirs, bench.settings_of(run).promotion, run.seed)
    files = run.figures.get("files", {}) | {"scores": _kept_bytes(run, bench, "json", scores_file(ours, theirs))}
    bench.tell("deciding", at_once=True)
    changes = {
        "figures": run.figures | {"measured": figures, "files": files},
        "decision": plain(decision.model_dump(mode="json")) | {"live": live.version},
        "message": "",
    }
    return _decided(run, bench, decision, live.version, candidate.version, changes)


def _decided(run: RetrainRun, bench: Bench, decision: Decision, live: str, candidate: str, changes: dict[str, Any]) -> After:
    """The decision, and what the registry does by it, in one transaction."""
    figures, reason = {"checks": changes["decision"]["checks"]}, decision.summary
    if decision.promote and bench.settings.retrain.promote == "ask":
        waits = f"{reason} It waits for a person: tamperwatch models promote {candidate}"
        return After(RetrainState.PROPOSED, changes | {"reason": waits})

    def record(session: Session) -> None:
        current = registry.live(session)
        if current is None or current.version != live:
            raise LiveChanged(f"measured against {live}, but {current.version if current else 'none'} is live by now")
        if decision.promote:
            registry.promote(session, candidate, registry.OURSELVES, reason, run.id, figures, from_version=live)
        elif registry.get(session, candidate).stage is not ModelStage.LIVE:
            registry.reject(session, candidate, registry.OURSELVES, reason, run.id, figures)

    state = RetrainState.PROMOTED if decision.promote else RetrainState.REJECTED
    return After(state, changes | {"reason": reason}, record)


def _lesson(run: RetrainRun, bench: Bench) -> Lesson:
    """The working set on this machine's disk, and how to train on it."""
    from scheduler.working_set import materialise

    settings, manifest = bench.settings_of(run), bench.manifest(run)
    base, teacher_id = read_base_set(settings.retrain.base), run.teacher_id or ""
    working = materialise(
        manifest.entries,
        bench.blobs,
        bench.masks(manifest.entries, teacher_id),
        bench.folder / WORKING_SET,
        read_picture=read_picture(bench.blobs, base, bench.limits),
        progress=bench.counting("laying out pictures"),
    )
    if working is None:
        raise InvalidInput("the working set was not finished")
    card = _card(run, bench)
    return Lesson(
        folder=bench.folder,
        manifest=working.manifest,
        manifest_sha256=run.manifest_sha256 or "",
        masks=working.masks,
        teacher_id=teacher_id,
        parent=folder_of(bench.version(run.parent_version or ""), bench.blobs, settings),
        config=lambda steps, minutes: run_config(card, settings, run.seed, steps, minutes),
        budget_minutes=settings.retrain.budget_minutes,
        device=settings.retrain.device,
    )


def _card(run: RetrainRun, bench: Bench) -> Card:
    """Of the student that training begins from."""
    return Card.model_validate(bench.version(run.parent_version or "").card)


def _has_mask(entry: ManifestEntry, base: BaseSet) -> bool:
    """Held-out pictures of the base set are measured against their true masks. To train, nobody may look at these."""
    return entry.role == "holdout" and entry.sha256 in base and base[entry.sha256].mask is not None


def _kept_files(run: RetrainRun, bench: Bench, paths: list[Path]) -> dict[str, str]:
    """Blob keys by name; the folder on the trainer's disk does not last."""
    return {path.stem: _kept_bytes(run, bench, path.suffix.lstrip("."), path.read_bytes()) for path in paths}


def _kept_bytes(run: RetrainRun, bench: Bench, ending: str, data: bytes) -> str:
    key = f"retrain/runs/{run.id}/{hashlib.sha256(data).hexdigest()[:16]}.{ending}"
    bench.blobs.put(key, data)
    return key


_STEPS: Final[dict[RetrainState, Callable[[RetrainRun, Bench], After]]] = {
    RetrainState.QUEUED: _begin,
    RetrainState.SELECTING: _select,
    RetrainState.TEACHING: _teach,
    RetrainState.TRAINING: _train,
    RetrainState.EVALUATING: _evaluate,
}
