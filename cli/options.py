"""Options that several verbs share."""

import getpass
import re
from datetime import timedelta
from typing import Annotated

import typer

from model.compress import PROFILES
from schemas.errors import InvalidInput
from schemas.states import AuditQueue

By = Annotated[str | None, typer.Option("--by", help="Who decides; your login name if left out.")]


def person(by: str | None) -> str:
    """Who decides.

    Raises:
        InvalidInput: no name is given, and this user has none.
    """
    try:
        return by if by is not None else getpass.getuser()
    except (OSError, KeyError) as error:
        raise InvalidInput("this user has no name; say who decides: --by NAME") from error


def parse_profiles(names: str) -> tuple[str, ...]:
    """Social-media profile names from a comma-separated list; `all` names every one.

    Raises:
        InvalidInput: a name is unknown.
    """
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip()))
    if chosen == ("all",):
        return tuple(PROFILES)
    unknown = [name for name in chosen if name not in PROFILES]
    if unknown:
        raise InvalidInput(f"unknown profile {', '.join(unknown)}; choose from {', '.join(PROFILES)}, or all")
    return chosen


def parse_queues(names: str) -> list[AuditQueue]:
    """Queues from a comma-separated list.

    Raises:
        InvalidInput: a name is unknown, or there is none.
    """
    chosen = dict.fromkeys(name.strip().lower() for name in names.split(",") if name.strip())
    known = {queue.value: queue for queue in AuditQueue}
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise InvalidInput(f"unknown queue {', '.join(unknown) or '(none given)'}; choose from {', '.join(known)}")
    return [known[name] for name in chosen]


def parse_age(text: str) -> timedelta:
    """A span of time written as a number and a unit: 90s, 30m, 12h, 90d, 2w.

    Raises:
        InvalidInput: it is written otherwise, or is longer than a date can be old.
    """
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    found = re.fullmatch(r"([0-9]{1,7})([smhdw])", text.strip().lower())
    if found is None or (age := timedelta(**{units[found[2]]: int(found[1])})) > timedelta(days=36_500):
        raise InvalidInput(f"{text!r} is no span of time; write a number and a unit, as in 90s, 30m, 12h, 90d or 2w")
    return age
