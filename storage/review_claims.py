"""Pictures lent to moderators: at any time each picture is before one person at most, by the database's clock.

A claim belongs to a page in somebody's browser, which knows its token and renews it. Claims that were not renewed in time go to
whoever comes next; their pages are told when they want to decide.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, or_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, SQLModel, col, select

from schemas.errors import Conflict
from schemas.learning_tables import ReviewClaim
from storage import review_queue
from storage.leases import clock
from storage.review_queue import Candidate, QueueFilter
from storage.turns import take_turns

_CLAIMS: Final = SQLModel.metadata.tables["review_claim"]
_PAGE: Final = 20
# Whoever claims passes over several rows: two at once would wait for each other.
_TURN: Final = "review claims"


@dataclass(frozen=True)
class Claim:
    """A picture in somebody's hands."""

    picture: str
    result_id: int
    holder: str
    token: str
    expires_at: datetime


def claim_next(session: Session, who: str, wanted: QueueFilter, for_s: float, without: Sequence[int] = ()) -> Claim | None:
    """Take the most suspicious picture that waits and that nobody else has; None if there is none.

    Args:
        who: the moderator.
        for_s: how long it is theirs unless it is renewed.
        without: numbers of results that this page has, or was asked to leave out.
    """
    take_turns(session, [_TURN])
    at, after = clock(session), None
    while True:
        taken = _held_results(session, at)
        page = review_queue.waiting(session, wanted, who, after, [*without, *taken], _PAGE)
        for each in _still_undecided(session, page) if not wanted.unsure else page:
            claim = _take(session, each.picture, each.place.result_id, who, at, for_s)
            if claim is not None:
                return claim
        if len(page) < _PAGE:
            return None
        after = page[-1].place


def claim_result(session: Session, picture: str, result_id: int, who: str, for_s: float) -> Claim | None:
    """Take one picture, decided or not, also from another page of one's own; None where somebody else has it."""
    take_turns(session, [_TURN])
    return _take(session, picture, result_id, who, clock(session), for_s, own_too=True)


def renew(session: Session, who: str, tokens: Sequence[str], for_s: float) -> set[str]:
    """Let claims last for so long from now on; those that had expired too, if nobody else has the picture.

    Returns:
        The tokens whose claims still stand.
    """
    ours = (_CLAIMS.c.token.in_(list(tokens)), _CLAIMS.c.holder == who)
    until = clock(session) + timedelta(seconds=for_s)
    return set(
        session.connection().execute(update(_CLAIMS).where(*ours).values(expires_at=until).returning(_CLAIMS.c.token)).scalars()
    )


def release(session: Session, who: str, tokens: Sequence[str]) -> None:
    """Let the next one take these pictures at once."""
    session.connection().execute(delete(_CLAIMS).where(_CLAIMS.c.token.in_(list(tokens)), _CLAIMS.c.holder == who))


def holder(session: Session, picture: str) -> Claim | None:
    """Who has a picture at this moment."""
    row = session.exec(select(ReviewClaim).where(ReviewClaim.picture == picture)).one_or_none()
    if row is None or row.expires_at <= clock(session):
        return None
    return Claim(row.picture, row.result_id, row.holder, row.token, row.expires_at)


def spend(session: Session, picture: str, who: str, token: str) -> None:
    """Give a claim up because of a decision.

    One that has expired still counts where nobody else took the picture.

    Raises:
        Conflict: somebody else has the picture by now.
    """
    query = select(ReviewClaim).where(ReviewClaim.picture == picture).with_for_update()
    row = session.exec(query.execution_options(populate_existing=True)).one_or_none()
    if row is not None and row.token != token and row.expires_at > clock(session):
        if row.holder == who:
            raise Conflict("you have this picture before you on another page, too; decide there. Nothing was stored")
        raise Conflict(f"your claim on this picture ran out, and {row.holder} looks at it now; nothing was stored")
    if row is not None:
        session.delete(row)
        session.flush()


def _still_undecided(session: Session, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Without those whose picture was decided before the result was made; the queue is told of them."""
    known = review_queue.decided(session, candidates)
    for each in candidates:
        if each.picture in known:
            review_queue.settle_result(session, each.place.result_id)
    return [each for each in candidates if each.picture not in known]


def _held_results(session: Session, at: datetime) -> list[int]:
    return list(session.exec(select(ReviewClaim.result_id).where(ReviewClaim.expires_at > at)).all())


def _take(
    session: Session, picture: str, result_id: int, who: str, at: datetime, for_s: float, own_too: bool = False
) -> Claim | None:
    """Insert the claim, or take over one that has expired, in one statement: of two who try, one gets a row back."""
    claim = Claim(picture, result_id, who, secrets.token_hex(8), at + timedelta(seconds=for_s))
    values = {"result_id": result_id, "holder": who, "token": claim.token, "claimed_at": at, "expires_at": claim.expires_at}
    insert: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[session.get_bind().dialect.name](_CLAIMS)
    free = _CLAIMS.c.expires_at <= at
    taking = insert.values(picture=picture, **values).on_conflict_do_update(
        index_elements=["picture"], set_=values, where=or_(free, _CLAIMS.c.holder == who) if own_too else free
    )
    found = session.connection().execute(taking.returning(col(ReviewClaim.token))).scalar()
    return claim if found == claim.token else None
