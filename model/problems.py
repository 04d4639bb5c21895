"""What can be wrong with a data set, collected and told together: each kind counted, named by line, with how to mend it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from schemas.errors import InvalidInput

PROBLEMS_SHOWN = 10


class Kind(Enum):
    """A kind of problem: its heading and how to mend it, in the order in which they are told."""

    LINE = "lines that cannot be understood", "correct or remove them"
    FILE = "missing files", "relative paths start at the data's own folder; correct them or remove these lines"
    PICTURE = "pictures that cannot be opened", "replace or remove them"
    STATED_SIZE = "stated sizes that are not the picture's", "correct width and height, or leave both empty"
    BOX = "boxes outside their picture", "boxes are [x0, y0, x1, y1] in pixels of the upright picture, x1 and y1 exclusive"
    NO_MARK = "manipulated pictures with neither box nor mask", "give each a box or a mask, or remove it"
    MASK = "masks that cannot be used", "save each as one 8-bit grey PNG"
    MASK_SIZE = "masks of another size than their picture", "it counts with its EXIF orientation applied"
    EMPTY_MASK = "masks that mark nothing", "manipulated pixels are above 127; an unmanipulated picture is authentic"
    FULL_MASK = "masks that mark the whole picture", "there is nothing to locate; correct or remove them"
    TWICE = "pictures listed more than once", "one line a picture, with all its boxes"
    BOTH_LABELS = "pictures that are both tampered and authentic", "the files are the same; keep the one with the right label"
    BOTH_SIDES = "scenes on both sides of the split", "near-duplicates are one scene; give its pictures one value in column split"
    NO_TRUE_MASK = (
        "manipulated validation pictures without a true mask",
        "the student is measured on them: give each a mask, or training in column split",
    )
    CLASS = "kinds of pictures missing", "add some, or move whole scenes with column split (training or validation)"


@dataclass(frozen=True)
class Problem:
    """One thing wrong: its kind, where (a line, a picture), and what it is."""

    kind: Kind
    where: str
    what: str


def refuse(problems: Iterable[Problem], source: str) -> None:
    """Raise if there is any problem.

    Args:
        problems: in any order; a kind's own order is kept.
        source: what they are problems of, for the first line of the message.

    Raises:
        InvalidInput: with the problems by kind, each kind counted and the first `PROBLEMS_SHOWN` of it named.
    """
    found = list(problems)
    if not found:
        return
    by_kind = [(kind, [problem for problem in found if problem.kind is kind]) for kind in Kind]
    lines = [f"{source} cannot be used, {len(found)} problem{'s' if len(found) > 1 else ''}:"]
    for kind, group in by_kind:
        if group:
            heading, remedy = kind.value
            lines.append(f"{heading} ({len(group)}): {remedy}")
            lines += [f"  {problem.where}: {problem.what}" for problem in group[:PROBLEMS_SHOWN]]
            lines += [f"  ... and {len(group) - PROBLEMS_SHOWN} more"] if len(group) > PROBLEMS_SHOWN else []
    raise InvalidInput("\n".join(lines))
