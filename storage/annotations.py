"""Every change to what people said of pictures. Rows are only added: a change of mind replaces an earlier row, and an undo too.

At any time each annotator has at most one standing word on a picture: the newest one they gave, unless it was replaced or
taken back. Callers bring the session, and with it the transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from schemas.errors import InvalidInput
from schemas.learning_tables import BoxAnnotation
from schemas.states import AnnotationKind, AnnotationOrigin
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult
from storage import audit_log
from storage.annotation_checks import NewAnnotation, SizePx, checked, text_problems
from storage.turns import take_turns


@dataclass(frozen=True)
class Added:
    """An annotation as it is stored; not `is_new` if the same was said before."""

    annotation: BoxAnnotation
    is_new: bool


def add_annotation(session: Session, new: NewAnnotation) -> Added:
    """Store one annotation; see `add_annotations`.

    Raises:
        InvalidInput: naming everything that is wrong with it.
    """
    return add_annotations(session, [new])[0]


def add_annotations(session: Session, new: Sequence[NewAnnotation], again: bool = False) -> list[Added]:
    """Store annotations. Saying the same again adds nothing.

    What is imported counts as said before if the annotator ever said the same of the picture, even if it was changed or taken
    back since: importing an old file must not undo later work. Everything else counts only if it still stands.

    Args:
        again: let imported annotations count only if they still stand, too.

    Returns:
        The stored annotations in the order given.

    Raises:
        InvalidInput: naming everything that is wrong with the first one that cannot be stored; nothing is stored.
    """
    pictures = {each.sha256 for each in new}
    take_turns(session, pictures)
    sizes, said = known_sizes(session, pictures), _history(session, pictures)
    added = []
    for each in new:
        ready = checked(each, sizes.get(each.sha256))
        earlier = said.setdefault(ready.sha256, [])
        added.append(_stored(session, ready, earlier, again))
    return added


def retract(session: Session, annotation_id: int, who: str, reason: str, origin: AnnotationOrigin) -> BoxAnnotation:
    """Take an annotation back, as a row of its own. What it had replaced stays replaced.

    Args:
        who: may be another person than the annotator.

    Raises:
        InvalidInput: there is no such annotation, it does not stand any more, or no name or reason is given.
    """
    found = session.get(BoxAnnotation, annotation_id)
    if found is None:
        raise InvalidInput(f"no annotation {annotation_id}; `tamperwatch annotate show PICTURE` names those of a picture")
    if problems := text_problems({"annotator": who, "note": reason}) + ([] if reason.strip() else ["a reason is needed"]):
        raise InvalidInput(f"annotation {annotation_id} cannot be taken back: {'; '.join(problems)}")
    take_turns(session, [found.sha256])
    _check_stands(found, _history(session, [found.sha256])[found.sha256])
    row = BoxAnnotation(
        sha256=found.sha256,
        result_id=found.result_id,
        kind=AnnotationKind.RETRACTED,
        width_px=found.width_px,
        height_px=found.height_px,
        annotator=who.strip(),
        source_id=found.source_id,
        note=reason.strip(),
        origin=origin,
        replaces=found.id,
    )
    return _added(session, row)


def known_sizes(session: Session, pictures: Iterable[str]) -> dict[str, SizePx]:
    """(width, height) of upright pictures by sha256, where an audit or an earlier annotation told it."""
    wanted = list(pictures)
    word = select(BoxAnnotation.sha256, BoxAnnotation.width_px, BoxAnnotation.height_px)
    word = word.where(col(BoxAnnotation.sha256).in_(wanted), col(BoxAnnotation.width_px).is_not(None)).distinct()
    audit = select(AuditJob.sha256, AuditResult.width_px, AuditResult.height_px).join(AuditJob)
    audit = audit.where(col(AuditJob.sha256).in_(wanted), AuditResult.profile == OWN_PICTURE).distinct()
    # An audit decoded the picture, so its word is the later one here.
    return {sha256: (width, height) for query in (word, audit) for sha256, width, height in session.connection().execute(query)}


def _stored(session: Session, ready: NewAnnotation, earlier: list[BoxAnnotation], again: bool) -> Added:
    """Store a checked annotation unless it was said before. `earlier` are the picture's rows, and get the new one."""
    own = [row for row in earlier if row.annotator == ready.annotator and row.kind is not AnnotationKind.RETRACTED]
    standing = own[-1] if own and _replacement(own[-1], earlier) is None else None
    ever = ready.origin is AnnotationOrigin.IMPORT and not again
    for row in reversed(own if ever else [standing] if standing else []):
        # The same correction sent twice names what it has itself replaced by then.
        same = (row.kind, row.pixel_boxes) == (ready.kind, ready.boxes)
        if same and ready.replaces in (None, row.id, row.replaces):
            return Added(row, is_new=False)
    if ready.replaces is not None:
        _check_stands(_of_picture(ready.replaces, earlier, ready.sha256), earlier)
    _check_result(session, ready)
    values = {name: getattr(ready, name) for name in ready.__dataclass_fields__}
    values |= {"boxes": [box.model_dump() for box in ready.boxes]}
    values |= {"replaces": ready.replaces or (standing.id if standing else None)}
    row = BoxAnnotation(**values)
    earlier.append(_added(session, row))
    return Added(row, is_new=True)


def _added(session: Session, row: BoxAnnotation) -> BoxAnnotation:
    """Every new row goes through here, and with it into the log of decisions."""
    session.add(row)
    session.flush()
    what = {"kind": row.kind.value, "boxes": row.boxes, "note": row.note, "origin": row.origin.value, "replaces": row.replaces}
    undone = row.kind is AnnotationKind.RETRACTED
    action = "annotation.undo" if undone else "annotation.add"
    audit_log.append(session, row.annotator, action, f"picture {row.sha256}", row=row.id, result=row.result_id, **what)
    return row


def _history(session: Session, pictures: Iterable[str]) -> dict[str, list[BoxAnnotation]]:
    """All rows of pictures by sha256, oldest first."""
    history: dict[str, list[BoxAnnotation]] = {}
    query = select(BoxAnnotation).where(col(BoxAnnotation.sha256).in_(list(pictures))).order_by(col(BoxAnnotation.id))
    for row in session.exec(query):
        history.setdefault(row.sha256, []).append(row)
    return history


def _replacement(row: BoxAnnotation, history: Iterable[BoxAnnotation]) -> BoxAnnotation | None:
    return next((each for each in history if each.replaces == row.id), None)


def _check_stands(row: BoxAnnotation, history: Sequence[BoxAnnotation]) -> None:
    """Raises InvalidInput: the row is not its annotator's standing word, and so can neither be corrected nor taken back."""
    if row.kind is AnnotationKind.RETRACTED:
        raise InvalidInput(f"annotation {row.id} took back {row.replaces}; to say it again, add a new annotation")
    by = _replacement(row, history)
    if by is not None and by.kind is AnnotationKind.RETRACTED:
        raise InvalidInput(f"annotation {row.id} was taken back by {by.annotator} ({by.id}): {by.note}")
    if by is not None:
        raise InvalidInput(f"annotation {row.id} was replaced by {by.id} of {by.annotator}; look at that one")
    newer = [each.id for each in history if each.annotator == row.annotator and each.kind is not AnnotationKind.RETRACTED]
    if newer[-1] != row.id:
        raise InvalidInput(f"annotation {row.id} is not the newest of {row.annotator} on this picture any more; {newer[-1]} is")


def _of_picture(annotation_id: int, history: Iterable[BoxAnnotation], sha256: str) -> BoxAnnotation:
    for row in history:
        if row.id == annotation_id:
            return row
    raise InvalidInput(f"annotation {annotation_id}, which is to be replaced, is not one of picture {sha256[:12]}")


def _check_result(session: Session, ready: NewAnnotation) -> None:
    """Raises InvalidInput: the named result is not there, or is of another picture."""
    if ready.result_id is None:
        return
    query = select(AuditJob.sha256).join(AuditResult).where(AuditResult.id == ready.result_id)
    if session.connection().execute(query).scalar() != ready.sha256:
        raise InvalidInput(f"result {ready.result_id} is not one of picture {ready.sha256[:12]}")
