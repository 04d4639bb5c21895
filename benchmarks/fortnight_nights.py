"""One night of a simulated fortnight: words into the store, a real run in a process of its own, and what came of it."""

import hashlib
import json
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from benchmarks.fortnight_data import Fortnight, Word
from model.card import Card
from model.evaluation import measure
from model.evaluation_data import EvaluationItem
from model.evaluation_report import Outcome
from model.metrics import image_auc
from model.predictor import Predictor
from scheduler.code_version import code_version
from scheduler.students import folder_of
from scheduler.trainer_role import NightProcess, run_once
from schemas.errors import InternalError
from schemas.learning_tables import RetrainRun
from schemas.settings import Settings
from schemas.states import AnnotationKind, AnnotationOrigin, RetrainTrigger
from storage import leases, registry, runs
from storage.annotation_checks import NewAnnotation
from storage.annotations import add_annotations
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from storage.migrations import upgrade
from storage.model_files import store_student
from storage.pictures import keep_pictures, known_pictures

MOST_PROCESSES: Final = 5
WHO: Final = "fortnight"
_LEASE_ASKED_S: Final = 1.0


class Truth(BaseModel):
    """A student against true masks of pictures that never train.

    Attributes:
        f1: mean pixel F1 of the manipulated pictures; `f1_start` and `f1_later` of those of either half of the sets.
        auc: image-level, of the scores; None without pictures of both kinds.
        false_area: mean share of an authentic picture that is marked.
    """

    version: str
    f1: float
    f1_start: float
    f1_later: float
    auc: float | None
    false_area: float


class NightFigures(BaseModel):
    """What one night came to.

    Attributes:
        live, candidate: before the decision; no candidate where the run was skipped.
        hold_out_live, hold_out_candidate: pixel F1 on the run's own hold-out, as the promotion rule saw it.
        wall_s, cpu_s: of the whole run.
    """

    night: int
    state: str
    reason: str
    words: int
    careless: int
    live: Truth
    candidate: Truth | None
    hold_out_live: float | None
    hold_out_candidate: float | None
    hold_out_pictures: int
    steps: int
    wall_s: float
    cpu_s: float


class Nights:
    """The stores of one simulation, and what its nights do with them."""

    def __init__(self, folder: Path, plan: Fortnight) -> None:
        """Open them; the process's environment names them to the runs.

        Args:
            folder: of the simulation.
            plan: what is said when, and what is measured.
        """
        self._folder, self._plan = folder, plan
        self.settings = Settings()
        self._database, self._blobs = Database(self.settings.database_url), open_blob_store(self.settings.blobs)
        self._truths: dict[str, Truth] = {}

    def begin_with(self, student: Path) -> None:
        """Make the schema, and the first student live; nothing where it was done before."""
        upgrade(self._database)
        card = Card.load(student)
        with self._database.read() as session:
            if registry.live(session) is not None:
                return
        location = store_student(self._blobs, student, card.version)
        with self._database.write() as session:
            registry.register(session, card.version, card.model_dump(mode="json"), location, WHO, "knows half of the sets")
            registry.promote(session, card.version, WHO, "the first one", override=True)

    def pass_night(self, night: int) -> NightFigures:
        """What moderators said on that day, the run, and its figures.

        Raises:
            InternalError: one process after the other died of it.
        """
        words, before = self._plan.nights[night - 1], self._live()
        self._say(words)
        started_s, used_s = time.monotonic(), _children_cpu_s()
        run = self._carried_out()
        wall_s, cpu_s = time.monotonic() - started_s, _children_cpu_s() - used_s
        measured = run.figures.get("measured", {})
        ours, theirs = measured.get("candidate", {}), measured.get("live", {})
        return NightFigures(
            night=night,
            state=run.state.value,
            reason=run.reason,
            words=len(words),
            careless=sum(word.careless for word in words),
            live=self.truth(before),
            candidate=self.truth(run.candidate_version) if run.candidate_version else None,
            hold_out_live=theirs.get("f1", {}).get("none"),
            hold_out_candidate=ours.get("f1", {}).get("none"),
            hold_out_pictures=theirs.get("n_tampered", 0) + theirs.get("n_authentic", 0),
            steps=run.steps_total or 0,
            wall_s=round(wall_s, 1),
            cpu_s=round(cpu_s, 1),
        )

    def truth(self, version: str) -> Truth:
        """A version against the true masks; measured once."""
        kept = self._folder / "truth" / f"{version}.json"
        if not kept.exists():
            with self._database.read() as session:
                row = registry.get(session, version)
                student = folder_of(row, self._blobs, self.settings)
            found = _truth(student, self._plan.measured, self._plan.later)
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(found.model_dump_json(), encoding="utf-8")
        return Truth.model_validate_json(kept.read_bytes())

    def close(self) -> None:
        self._database.close()

    def _live(self) -> str:
        with self._database.read() as session:
            row = registry.live(session)
            assert row is not None
            return row.version

    def _say(self, words: Sequence[Word]) -> None:
        """Store the pictures and what was said of them; what is known already was said before the simulation was stopped."""
        data = {hashlib.sha256(content).hexdigest(): (word, content) for word in words for content in [word.image.read_bytes()]}
        with self._database.read() as session:
            known = known_pictures(session, data)
        new = {sha256: found for sha256, found in data.items() if sha256 not in known}
        for sha256, (_, content) in new.items():
            self._blobs.put(picture_key(sha256), content)
        with self._database.write() as session:
            keep_pictures(session, {sha256: len(content) for sha256, (_, content) in new.items()})
            add_annotations(session, [_annotation(sha256, word) for sha256, (word, _) in new.items()])

    def _carried_out(self) -> RetrainRun:
        """Begin the night's run, or go on with the one that was left, to its end."""
        with self._database.write() as session:
            run_id = runs.begin(session, RetrainTrigger.SCHEDULE, code_version())[0].id
        for _ in range(MOST_PROCESSES):
            self._wait_for_lease()
            run_once(self._database, NightProcess(self.settings))
            with self._database.read() as session:
                run = runs.get(session, run_id)
                session.expunge(run)
            if run.state.ended:
                return run
        raise InternalError(f"run {run_id} is {run.state.value} after {MOST_PROCESSES} processes: {run.message}")

    def _wait_for_lease(self) -> None:
        """Until nobody holds it: a simulation that was killed leaves it to run out."""
        while True:
            with self._database.read() as session:
                if leases.holder(session, runs.LEASE) is None:
                    return
            time.sleep(_LEASE_ASKED_S)


def told(folder: Path, base: Path, values: dict[str, str]) -> None:
    """Say in this process's environment, which its runs inherit, where everything is; what was said before does not count."""
    for name in [name for name in os.environ if name.startswith("TAMPERWATCH_")]:
        del os.environ[name]
    places = {
        "DATABASE_URL": f"sqlite:///{folder / 'fortnight.db'}",
        "BLOBS__DIRECTORY": str(folder / "blobs"),
        "ENGINE__MODEL_CACHE": str(folder / "cache"),
        "RETRAIN__FOLDER": str(folder / "runs"),
        "RETRAIN__BASE": str(base),
    }
    os.environ.update({f"TAMPERWATCH_{name}": value for name, value in (places | values).items()})


def read_figures(file: Path) -> list[NightFigures]:
    """The nights that have passed, in their order."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [NightFigures.model_validate(json.loads(line)) for line in lines]


def _annotation(sha256: str, word: Word) -> NewAnnotation:
    kind = AnnotationKind.BOXES if word.boxes else AnnotationKind.AUTHENTIC
    size: dict[str, Any] = {"width_px": word.size_px[0], "height_px": word.size_px[1]}
    return NewAnnotation(sha256, word.annotator, kind, AnnotationOrigin.IMPORT, word.boxes, source_id=word.scene, **size)


def _truth(student: Path, items: Sequence[EvaluationItem], later: frozenset[Path]) -> Truth:
    predictor = Predictor.load(student, "openvino", threads=1)
    outcomes = measure(predictor, items).outcomes
    tampered = [each for each in outcomes if each.tampered]
    return Truth(
        version=predictor.card.version,
        f1=_mean_f1(tampered),
        f1_start=_mean_f1([each for each in tampered if each.image not in later]),
        f1_later=_mean_f1([each for each in tampered if each.image in later]),
        auc=image_auc([each.score for each in outcomes], [each.tampered for each in outcomes]),
        false_area=_mean([each.alarm_area for each in outcomes if not each.tampered]),
    )


def _mean_f1(outcomes: Sequence[Outcome]) -> float:
    return _mean([each.f1 for each in outcomes if each.f1 is not None])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _children_cpu_s() -> float:
    """CPU time of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
