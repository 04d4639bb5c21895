"""One picture as a moderator sees it: its result in words, what others say, and what earlier models said."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlmodel import Session, col, select

from model.render import read_mask_png
from model.score_meaning import Meaning, meaning
from schemas.errors import NotFound, TamperwatchError
from schemas.learning_tables import BoxAnnotation, Review
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, ModelVersion
from storage import annotation_queries, queries, review_claims, reviews
from storage.annotation_queries import JudgedPicture
from storage.queries import AuditedJob
from storage.review_claims import Claim
from web.wording import NETWORK_NAMES, likelihood

_MOST_OTHERS: Final = 12


@dataclass(frozen=True)
class Earlier:
    """What another model version said of the same bytes.

    Attributes:
        mask_agreement: IoU of the two masks at the network's own size; None where one of them was purged or differs in size.
    """

    result: AuditResult
    mask_agreement: float | None


@dataclass(frozen=True)
class Item:
    """Everything the page shows of one result.

    Attributes:
        claim: of the page that asks; None where it only looks.
        taken_by: who else has the picture at this moment.
        others: other results of the same bytes, newest first.
        earlier: the newest of those that another model version gave before.
        said: what stands of people's words about places, with its consensus.
        decided: standing decisions, oldest first.
    """

    audited: AuditedJob
    own: AuditResult
    claim: Claim | None
    taken_by: Claim | None
    meaning: Meaning | None
    validation_share: float | None
    others: Sequence[tuple[AuditResult, AuditJob]]
    earlier: Earlier | None
    said: JudgedPicture | None
    decided: Sequence[Review]
    size_bytes: int | None = None
    profiles: Sequence[tuple[str, AuditResult]] = field(default=())

    @property
    def job(self) -> AuditJob:
        return self.audited.job

    @property
    def likelihood(self) -> str:
        return likelihood(self.own.score)

    @property
    def seen_review_id(self) -> int:
        """The newest decision that this page shows."""
        return max((each.id or 0 for each in self.decided), default=0)

    def canvas(self, who: str) -> dict[str, Any]:
        """What the page's script needs to draw and to decide."""
        number, annotations = self.own.id, self.said.annotations if self.said else ()
        mine = next((each for each in reversed(annotations) if each.annotator == who), None)
        return {
            "id": number,
            "token": self.claim.token if self.claim else "",
            "seen": self.seen_review_id,
            "name": self.job.source,
            "width": self.own.width_px,
            "height": self.own.height_px,
            "picture": f"/review/results/{number}/picture" if self.job.sha256 else "",
            "map": f"/review/results/{number}/map.png" if self.own.mask_png else "",
            "regions": [each["box"] for each in self.own.regions],
            "mine": mine.boxes if mine else [],
            "others": [{"by": each.annotator, "boxes": each.boxes} for each in annotations if each.annotator != who],
        }


def look_up(session: Session, number: int, who: str, claim: Claim | None = None) -> Item:
    """A result with all that is known of its picture.

    Raises:
        NotFound
    """
    audited = queries.result_numbered(session, number)
    if audited is None or audited.own is None:
        raise NotFound(f"no result {number}; it may have been purged")
    own, job = audited.own, audited.job
    picture = job.sha256 or job.id.hex
    card = session.get(ModelVersion, own.model_version)
    metrics = (card.card.get("metrics") or {}) if card is not None else {}
    standing: list[BoxAnnotation] = annotation_queries.standing(session, [picture]).get(picture, []) if job.sha256 else []
    others = _others(session, job, number)
    held = review_claims.holder(session, picture) if claim is None else None
    return Item(
        audited=audited,
        own=own,
        claim=claim,
        taken_by=held if held is not None and held.holder != who else None,
        meaning=meaning(metrics, own.score, own.verdict),
        validation_share=_validation_share(metrics),
        others=others,
        earlier=_earlier(own, [each for each, _ in others]),
        said=annotation_queries.judged(picture, standing) if standing else None,
        decided=reviews.standing_of_picture(session, number, job.sha256),
        profiles=[(NETWORK_NAMES.get(name, name), each) for name, each in audited.results.items() if name != OWN_PICTURE],
    )


def _others(session: Session, job: AuditJob, number: int) -> list[tuple[AuditResult, AuditJob]]:
    if job.sha256 is None:
        return []
    query = select(AuditResult, AuditJob).join(AuditJob).where(AuditJob.sha256 == job.sha256, AuditResult.profile == OWN_PICTURE)
    return list(
        session.exec(query.where(AuditResult.id != number).order_by(col(AuditResult.id).desc()).limit(_MOST_OTHERS)).all()
    )


def _earlier(own: AuditResult, others: Sequence[AuditResult]) -> Earlier | None:
    before = next((each for each in others if each.model_version != own.model_version and (each.id or 0) < (own.id or 0)), None)
    return Earlier(before, _agreement(own, before)) if before is not None else None


def _agreement(one: AuditResult, other: AuditResult) -> float | None:
    if not one.mask_png or not other.mask_png:
        return None
    try:
        masks = [read_mask_png(each.mask_png) > 127 for each in (one, other)]
    except TamperwatchError:
        return None
    if masks[0].shape != masks[1].shape:
        return None
    union = int((masks[0] | masks[1]).sum())
    return int((masks[0] & masks[1]).sum()) / union if union else 1.0


def _validation_share(metrics: dict[str, Any]) -> float | None:
    """The share of manipulated pictures in validation, which every figure in 100 depends on."""
    overall = metrics.get("overall") or {}
    tampered, authentic = overall.get("n_tampered") or 0, overall.get("n_authentic") or 0
    return tampered / (tampered + authentic) if tampered + authentic else None
