"""Write the table of docs/licences.md: every package that comes with ours, with its licence as its own metadata names it.

    python .ci/licences.py

Run it where the package is installed with the extras below. Packages that only some machines have (NVIDIA's libraries) are
told in the text.
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "licences.md"
_EXTRAS = {"": "base"} | {extra: f"[{extra}]" for extra in ("web", "otel", "gpu", "train", "export", "similar")}
_MACHINE = re.compile(r"nvidia|cuda|triton|cu1")
_LONGEST = 60
_BEGIN, _END = "<!-- written by .ci/licences.py -->\n", "<!-- end -->\n"


def needed() -> dict[str, str]:
    """Each package by its canonical name, and the first part of ours that brings it."""
    found: dict[str, str] = {}
    for extra, shown in _EXTRAS.items():
        _walk(Requirement(f"tamperwatch[{extra}]" if extra else "tamperwatch"), shown, found, set())
    del found["tamperwatch"]
    return dict(sorted(found.items()))


def _walk(requirement: Requirement, shown: str, found: dict[str, str], seen: set[tuple[str, str]]) -> None:
    name = canonicalize_name(requirement.name)
    if _MACHINE.search(name):
        return
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        sys.exit(f"{name} is not installed: pip install -c constraints.txt '.[web,otel,train,export,similar]'")
    found.setdefault(name, shown)
    for extra in {"", *requirement.extras}:
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in installed.requires or []:
            child = Requirement(line)
            of_extra = child.marker is not None and "extra" in str(child.marker)
            if of_extra != bool(extra) or (child.marker is not None and not child.marker.evaluate({"extra": extra})):
                continue
            _walk(child, shown, found, seen)


def licence(package: Distribution) -> str:
    """The licence in a few words: the SPDX expression, the classifiers, or the first line of what is written."""
    metadata = package.metadata
    if metadata.get("License-Expression"):
        return str(metadata["License-Expression"])
    classifiers = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or [] if line.startswith("License ::")]
    named = [each.removesuffix(" License") for each in classifiers if each != "OSI Approved"]
    written = (metadata.get("License") or "").strip().partition("\n")[0]
    return "; ".join(named) or written[:_LONGEST] or "not said in its metadata"


def table() -> str:
    """The whole table as Markdown."""
    rows = [f"| {name} | {licence(distribution(name))} | {part} |" for name, part in needed().items()]
    return "\n".join(["| package | licence | comes with |", "|---|---|---|", *rows]) + "\n"


def written() -> str:
    """The document with the table as it should be."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return text.partition(_BEGIN)[0] + _BEGIN + table() + _END + text.partition(_END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(written(), encoding="utf-8")
