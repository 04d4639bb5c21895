"""Which pictures are held out for good: a ledger that remembers, and the rule by which pictures join it.

Two pictures belong to one cluster when they have the same source id, when they are near-duplicates (`model.near_duplicates`), or
through a chain of such pairs. A cluster is drawn once, when its first picture arrives: by the hash of its smallest source id or,
without one, of its smallest picture hash. What is drawn is written down and never drawn again. Then

- a picture that joins a cluster shares its fate;
- a picture that links clusters makes them one, which is held out if any of them was. The pictures that this takes from
  training are told (`Removal`);
- of a held-out cluster, pictures that a student was trained on before, and their direct relatives (same source id, or
  near-duplicate), are *set aside*: they neither train nor measure.

So no picture ever trains and is measured, no measured picture has a direct relative that ever trained, and a picture that was
held out never trains. The ledger only grows; pictures that were purged keep their place in it.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from model.near_duplicates import CELLS, near_blocks

Side = Literal["trains", "held_out", "set_aside"]
Pin = Literal["trains", "held_out"]

_LEVELS = 127  # of an int8


@dataclass(frozen=True)
class Arrival:
    """A picture that the ledger does not know yet.

    Attributes:
        sha256: of its bytes.
        source_id: scene, campaign or account it comes from, where anybody said so.
        fingerprint: from `packed`.
        pinned: the side a base set put it on; it decides for a cluster of arrivals alone.
        used: a student has been trained on it before, as on the base set's training pictures.
    """

    sha256: str
    source_id: str | None
    fingerprint: bytes
    pinned: Pin | None = None
    used: bool = False


@dataclass(frozen=True)
class Placed:
    """A picture in the ledger.

    Attributes:
        sha256, source_id, fingerprint: as it arrived.
        cluster: 16 hex digits, the same for all relatives.
        side: what it is for.
        used: a run has been given it to train or tune on.
    """

    sha256: str
    source_id: str | None
    fingerprint: bytes
    cluster: str
    side: Side
    used: bool = False


@dataclass(frozen=True)
class Removal:
    """A picture that could train until a newcomer linked its cluster with a held-out one."""

    sha256: str
    cluster_before: str
    cluster: str
    used: bool


@dataclass(frozen=True)
class Ledger:
    """Every picture ever placed, in the order of their hashes; and what the last placing took from training."""

    placed: tuple[Placed, ...] = ()
    removed: tuple[Removal, ...] = ()

    def by_sha256(self) -> dict[str, Placed]:
        return {picture.sha256: picture for picture in self.placed}

    def marked_used(self, sha256s: Collection[str]) -> "Ledger":
        """The ledger after a run has been given these pictures; written down before the run begins.

        Raises:
            ValueError: one of them may not train.
        """
        wanted = set(sha256s)
        barred = sorted(picture.sha256 for picture in self.placed if picture.sha256 in wanted and picture.side != "trains")
        unknown = sorted(wanted - {picture.sha256 for picture in self.placed})
        if barred or unknown:
            raise ValueError(f"may not train: {barred or unknown}")
        return replace(self, placed=tuple(replace(each, used=True) if each.sha256 in wanted else each for each in self.placed))


def packed(fingerprint: NDArray[np.float32]) -> bytes:
    """A fingerprint of `model.near_duplicates`, [256] of length one or zeros, as 256 signed bytes."""
    peak = float(np.abs(fingerprint).max())
    scaled = fingerprint * (_LEVELS / peak) if peak else fingerprint
    return np.rint(scaled).astype(np.int8).tobytes()


def placed(ledger: Ledger, arrivals: Iterable[Arrival], share: float, salt: str = "") -> Ledger:
    """Give newcomers their place. The order of the arrivals does not matter, nor does placing one twice.

    Args:
        ledger: as the last run left it.
        arrivals: of those the ledger knows only `used` is news; otherwise the first word about them stands.
        share: chance of a new cluster to be held out. A larger one later leaves what is placed where it is.
        salt: secret word in the draw.
    """
    known, coming = ledger.by_sha256(), {each.sha256: each for each in arrivals}
    burnt = {s for s, each in coming.items() if s in known and each.used and not known[s].used}
    old = [replace(each, used=True) if each.sha256 in burnt else each for each in ledger.placed]
    pictures: list[Arrival | Placed] = [*old, *(each for s, each in sorted(coming.items()) if s not in known)]
    groups = _components(pictures, len(old))
    touched = {groups[index] for index, each in enumerate(pictures) if each.sha256 not in known or each.sha256 in burnt}
    members: dict[int, list[Arrival | Placed]] = {}
    for index, group in enumerate(groups):
        if group in touched:
            members.setdefault(group, []).append(pictures[index])
    settled = {each.sha256: each for group in members.values() for each in _settled(group, share, salt)}
    merged = known | settled
    removed = tuple(
        Removal(before.sha256, before.cluster, after.cluster, before.used)
        for sha256, after in sorted(settled.items())
        if (before := known.get(sha256)) is not None and before.side == "trains" and after.side != "trains"
    )
    return Ledger(tuple(merged[sha256] for sha256 in sorted(merged)), removed)


def drawn(name: str, share: float, salt: str = "") -> bool:
    """Whether this name falls into a share of all names: the first 32 bits of its sha256 as a fraction of one."""
    return int(hashlib.sha256(f"{salt}|{name}".encode()).hexdigest()[:8], 16) < share * 2**32


def _components(pictures: Sequence[Arrival | Placed], n_known: int) -> list[int]:
    """A number for each picture, the same for all of one cluster. Relations among known pictures are their clusters."""
    parent = list(range(len(pictures)))
    first: dict[str, int] = {}
    for index, picture in enumerate(pictures):
        keys = [f"source:{picture.source_id}"] if picture.source_id is not None else []
        keys += [f"cluster:{picture.cluster}"] if isinstance(picture, Placed) else []
        for key in keys:
            _join(parent, first.setdefault(key, index), index)
    prints = _unpacked([picture.fingerprint for picture in pictures])
    for newcomers, others, alike in near_blocks(prints[n_known:], prints):
        for row, column in np.argwhere(alike):
            _join(parent, n_known + newcomers.start + int(row), others.start + int(column))
    return [_root(parent, index) for index in range(len(pictures))]


def _settled(members: Sequence[Arrival | Placed], share: float, salt: str) -> list[Placed]:
    """One cluster's pictures with its name and their sides."""
    name, held_out = _fate(members, share, salt)
    aside = _related_to_used(members) if held_out else [False] * len(members)
    return [
        Placed(
            sha256=member.sha256,
            source_id=member.source_id,
            fingerprint=member.fingerprint,
            cluster=name,
            side="set_aside" if apart else "held_out" if held_out else "trains",
            used=member.used,
        )
        for member, apart in zip(members, aside, strict=True)
    ]


def _fate(members: Sequence[Arrival | Placed], share: float, salt: str) -> tuple[str, bool]:
    """The cluster's name, and whether it is held out."""
    pins = {member.pinned for member in members if isinstance(member, Arrival)} - {None}
    fates = {member.cluster: member.side != "trains" for member in members if isinstance(member, Placed)}
    if fates:
        held = [cluster for cluster, out in fates.items() if out]
        return min(held or fates), bool(held) or "held_out" in pins
    sources = [member.source_id for member in members if member.source_id is not None]
    founder = f"source:{min(sources)}" if sources else f"picture:{min(member.sha256 for member in members)}"
    held_out = "held_out" in pins or (not pins and drawn(founder, share, salt))
    return hashlib.sha256(founder.encode()).hexdigest()[:16], held_out


def _related_to_used(members: Sequence[Arrival | Placed]) -> list[bool]:
    """For each picture of one cluster, whether a student was trained on it or on a direct relative of it."""
    used = np.array([member.used for member in members], dtype=np.bool_)
    if not used.any():
        return [False] * len(members)
    burnt = {member.source_id for member in members if member.used} - {None}
    aside = used | np.array([member.source_id in burnt for member in members], dtype=np.bool_)
    prints = _unpacked([member.fingerprint for member in members])
    for rows, _, alike in near_blocks(prints, prints[used]):
        aside[rows] |= alike.any(axis=1)
    return [bool(each) for each in aside]


def _unpacked(fingerprints: Sequence[bytes]) -> NDArray[np.float32]:
    """[N, 256] of length one, or zeros, which resemble nothing."""
    values = np.frombuffer(b"".join(fingerprints), dtype=np.int8).reshape(-1, CELLS * CELLS).astype(np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return unit


def _join(parent: list[int], one: int, other: int) -> None:
    a, b = _root(parent, one), _root(parent, other)
    parent[max(a, b)] = min(a, b)


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = index = parent[parent[index]]
    return index
