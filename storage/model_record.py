"""Everything the store knows of one model version: its decisions, the run that made it, and where it comes from."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from schemas.learning_tables import ModelDecision, RetrainRun
from schemas.tables import ModelVersion
from storage import registry

_LONGEST_LINE = 1000


@dataclass(frozen=True)
class Ancestor:
    """One student that training began from.

    Attributes:
        name: its version; or what the card says it was, where no version of that name is known.
        row: of the version, if it is known.
        run: that made it, if it is known.
    """

    name: str
    row: ModelVersion | None = None
    run: RetrainRun | None = None


@dataclass(frozen=True)
class ModelRecord:
    """One version.

    Attributes:
        row: the version.
        run: the retraining run that made it; None for one that came from elsewhere.
        decisions: about it, and those that put another in its place; oldest first.
        ancestors: its parent, that one's parent, and so on to the root.
    """

    row: ModelVersion
    run: RetrainRun | None
    decisions: list[ModelDecision]
    ancestors: list[Ancestor]


def model_record(session: Session, version: str) -> ModelRecord:
    """Look one version up.

    Raises:
        InvalidInput: there is none of that name.
    """
    row = registry.get(session, version)
    run = run_of(session, version)
    decisions = [each for each in registry.decisions(session) if version in (each.version, each.from_version)]
    return ModelRecord(row, run, decisions, _ancestors(session, row, run))


def run_of(session: Session, version: str) -> RetrainRun | None:
    """The newest run that made this version."""
    query = select(RetrainRun).where(RetrainRun.candidate_version == version)
    return session.exec(query.order_by(col(RetrainRun.created_at).desc()).limit(1)).first()


def _ancestors(session: Session, row: ModelVersion, run: RetrainRun | None) -> list[Ancestor]:
    ancestors: list[Ancestor] = []
    seen = {row.version}
    parent = _parent(session, row, run)
    while parent is not None and parent not in seen and len(ancestors) < _LONGEST_LINE:
        seen.add(parent)
        found = session.get(ModelVersion, parent)
        made_by = run_of(session, parent) if found is not None else None
        ancestors.append(Ancestor(parent, found, made_by))
        parent = _parent(session, found, made_by) if found is not None else None
    return ancestors


def _parent(session: Session, row: ModelVersion, run: RetrainRun | None) -> str | None:
    """As the run says, else as the card does; there it stands as a version and the digest of its weights."""
    if run is not None and run.parent_version:
        return run.parent_version
    training = row.card.get("training")
    initial = training.get("initial") if isinstance(training, dict) else None
    if not isinstance(initial, str) or not initial:
        return None
    name = initial.partition(" (")[0]
    return name if session.get(ModelVersion, name) is not None else initial
