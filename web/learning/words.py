"""What is known of a model version, in words: for the terminal and for the report alike."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from schemas.learning_tables import ModelDecision, RetrainRun
from schemas.states import ModelAction
from storage.learned_boxes import BoxCounts
from storage.model_record import Ancestor, ModelRecord

_NAMES_SHOWN = 8
_SHORT = 12
_DONE = {
    ModelAction.REGISTER: "registered",
    ModelAction.IMPORT: "imported",
    ModelAction.PROMOTE: "made live",
    ModelAction.REJECT: "rejected",
    ModelAction.ROLLBACK: "rolled back to it",
}
_ROLES = {"train": "to learn from", "tune": "to stop by", "holdout": "held out"}
# (key in the card's metrics, words); the last ones lie deeper.
_FIGURES = (
    (("overall", "f1"), "pixel F1"),
    (("set_mean_f1",), "mean of sets"),
    (("overall", "fa_area"), "false-alarm area"),
    (("image_auc",), "image AUC"),
    (("image_f1",), "image F1"),
    (("ece",), "calibration error"),
)


class Fact(NamedTuple):
    """One line: what it is about, and what is said."""

    about: str
    words: str


def facts_of(record: ModelRecord, boxes: BoxCounts) -> list[Fact]:
    """Where a version comes from and what it learned from."""
    card, run = record.row.card, record.run
    found = card.get("training")
    training: dict[str, Any] = found if isinstance(found, dict) else {}
    facts = [
        Fact("made", _made(card, run)),
        Fact("from", lineage_words(record.ancestors) or "scratch: no earlier student is named"),
        Fact("teacher", str((run and run.teacher_id) or training.get("teacher") or "not recorded")),
        Fact("manifest", str((run and run.manifest_sha256) or training.get("manifest_sha256") or "not recorded")),
        *_learned(training, boxes),
        Fact("code", (run.code_version if run else "") or "not recorded"),
        Fact("measures", measures(card.get("metrics"))),
        Fact("files", f"{record.row.location}, {_megabytes(card)}"),
    ]
    return [fact for fact in facts if fact.words]


def lineage_words(ancestors: Sequence[Ancestor]) -> str:
    """Parent first."""
    return " ← ".join(each.name for each in ancestors)


def measures(metrics: Any) -> str:
    """The card's figures on validation."""
    if not isinstance(metrics, dict):
        return "none in its card"
    told = [f"{words} {value:.3f}" for path, words in _FIGURES if (value := _number_at(metrics, path)) is not None]
    pictures = metrics.get("n_pictures")
    on = f" on {pictures} {metrics.get('split', '')} pictures".replace("  ", " ") if isinstance(pictures, int) else ""
    return ", ".join(told) + on if told else "none in its card"


def decision_words(decision: ModelDecision) -> str:
    """What was done to the version, with what it replaced and whether it overruled the rule."""
    said = _DONE[decision.action]
    if decision.from_version:
        said += f" in place of {decision.from_version}"
    return f"{said}, against a rejection" if decision.figures.get("override") else said


def shares(counts: Mapping[str, int]) -> str:
    """Names with their numbers, the largest ones first."""
    names = list(counts)
    told = ", ".join(f"{name} {counts[name]}" for name in names[:_NAMES_SHOWN])
    return f"{told} and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else told


def when(at: datetime) -> str:
    """A time, to the minute, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M")


def created_at(card: Mapping[str, Any]) -> str:
    """When a card says that its student was made: to the minute, or as it stands there."""
    stated = str(card.get("created") or "at a time not recorded")
    try:
        return f"{when(datetime.fromisoformat(stated).astimezone(UTC))} UTC"
    except ValueError:
        return stated


def _made(card: Mapping[str, Any], run: RetrainRun | None) -> str:
    created = created_at(card)
    if run is None:
        return created
    steps = f" in {run.step} steps" if run.step else ""
    return f"{created} by run {run.id} ({run.trigger.value}){steps}, seed {run.seed}"


def _learned(training: Mapping[str, Any], boxes: BoxCounts) -> list[Fact]:
    if boxes.why_not:
        sets = training.get("data", {}).get("training") if isinstance(training.get("data"), dict) else None
        return [Fact("learned from", _sets(sets) if isinstance(sets, dict) else boxes.why_not)]
    roles = [
        f"{count} pictures {_ROLES.get(role, role)} ({boxes.boxes.get(role, 0)} boxes, {boxes.authentic.get(role, 0)} authentic)"
        for role, count in boxes.pictures.items()
    ]
    return [
        Fact("learned from", "; ".join(roles)),
        Fact("of which", shares(boxes.origins)),
        Fact("annotators", shares(boxes.annotators)),
        Fact("sources", shares(boxes.sources)),
    ]


def _sets(sets: Mapping[str, Any]) -> str:
    counts = {
        name: sum(value for value in each.values() if isinstance(value, int))
        for name, each in sets.items()
        if isinstance(each, dict)
    }
    ordered = dict(sorted(counts.items(), key=lambda each: -each[1]))
    return f"{sum(counts.values())} pictures: {shares(ordered)}"


def _megabytes(card: Mapping[str, Any]) -> str:
    files = card.get("files")
    sizes = [each.get("bytes", 0) for each in files.values() if isinstance(each, dict)] if isinstance(files, dict) else []
    return f"{sum(sizes) / 1e6:.1f} MB" if sizes else "of a size not recorded"


def _number_at(metrics: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
