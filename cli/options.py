"""Options that several verbs share."""

from model.compress import PROFILES
from schemas.errors import InvalidInput
from schemas.states import AuditQueue


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
