"""What a night learns from: a pure function from labelled pictures to the entries of a manifest, and the account of it.

Only what a person said trains. Pictures that the live model let pass and nobody looked at never do: its own blind spots would
be taught back to it as authentic, and whoever got a forgery past it once would have it learned as genuine.

Sampling is by the order of hashes under the run's seed, so it does not depend on the order of rows, and another picture in the
pool moves nobody else's place in it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from scheduler.caps import capped
from scheduler.frozen_manifest import ManifestEntry, Origin, Role
from scheduler.labels import History, LabelledPicture, origin_of
from scheduler.sufficiency import shortages
from schemas.learning_settings import PromotionSettings, SelectionSettings

Readiness = Literal["ready", "nothing_new", "too_few"]

# The first are kept longest when a class has to shrink, and come first under caps.
_ORIGINS: tuple[Origin, ...] = ("new", "refused", "old", "base")
_NOT_DRAWN: dict[Origin, str] = {
    "refused": "from refused runs, not drawn this time",
    "old": "from earlier nights, not drawn this time",
    "base": "of the base set, not drawn this time",
}
# What is measured must not change with the run's seed.
_HOLDOUT_ORDER = "hold-out"


@dataclass(frozen=True)
class Selection:
    """What a run would take.

    Attributes:
        readiness: whether it should start at all.
        why: that in words and numbers.
        entries: for `frozen_manifest.freeze`; also there where the run should not start.
        taken: pictures by role, origin and label, as "train new tampered".
        left_out: pictures by reason.
    """

    readiness: Readiness
    why: str
    entries: tuple[ManifestEntry, ...]
    taken: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def account(self) -> str:
        """One paragraph: why, and what was left out."""
        reasons = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
        return f"{self.why}. Left out: {reasons}." if reasons else f"{self.why}."


def select(
    pictures: Iterable[LabelledPicture],
    history: History,
    settings: SelectionSettings,
    seed: int,
    promotion: PromotionSettings | None = None,
) -> Selection:
    """Choose what a run trains on, tunes on and is measured on.

    Args:
        pictures: each hash once, or twice where the base set has it too: then the people's word counts.
        history: which of them earlier runs have seen.
        settings: shares, caps and least counts.
        seed: of the run's sampling; what is held out does not depend on it.
        promotion: then a run does not start either where its candidate could not be judged.
    """
    left_out: Counter[str] = Counter()
    usable = _usable(pictures, left_out)
    measured = _measured([each for each in usable if each.side == "held_out"], settings, left_out)
    training = [(each, origin_of(each, history)) for each in usable if each.side == "trains"]
    n_new = sum(origin == "new" for _, origin in training)
    chosen = _chosen(training, settings, seed, left_out)
    tuning = _tuning_clusters([each for each, _ in chosen], settings.tuning_share)
    entries = [_entry(each, origin, "tune" if each.cluster in tuning else "train") for each, origin in chosen]
    entries += [_entry(each, origin_of(each, history), "holdout") for each in measured]
    readiness, why = _readiness(n_new, entries, settings, promotion)
    taken = Counter(f"{entry.role} {entry.origin} {_label(entry.tampered)}" for entry in entries)
    ordered = sorted(entries, key=lambda entry: (entry.role, entry.sha256))
    return Selection(readiness, why, tuple(ordered), dict(sorted(taken.items())), _nonzero(left_out))


def _usable(pictures: Iterable[LabelledPicture], left_out: Counter[str]) -> list[LabelledPicture]:
    """One for each hash, in the order of hashes; what cannot be used is counted."""
    by_sha256: dict[str, LabelledPicture] = {}
    for each in pictures:
        if each.sha256 not in by_sha256 or not each.base:
            by_sha256[each.sha256] = each
    kept = []
    for _, each in sorted(by_sha256.items()):
        reason = _obstacle(each)
        if reason:
            left_out[reason] += 1
        else:
            kept.append(each)
    return kept


def _obstacle(picture: LabelledPicture) -> str | None:
    if picture.problem:
        return picture.problem
    if picture.disputed:
        return "annotators contradict each other"
    if picture.side == "set_aside":
        return "related to both held-out and trained pictures"
    if picture.tampered and not picture.boxes:
        return "called manipulated, but without a box"
    return None


def _nonzero(counts: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counts.items()) if count}


def _measured(pictures: Sequence[LabelledPicture], settings: SelectionSettings, left_out: Counter[str]) -> list[LabelledPicture]:
    """The held-out pictures that are measured: under the same caps, so that no account's taste is the yardstick."""
    ordered = _by_hash(pictures, _HOLDOUT_ORDER)
    kept = _within_caps(ordered, settings, left_out, "held out, ")
    left_out["held out, more than are measured in a run"] += len(kept[settings.holdout_most :])
    return kept[: settings.holdout_most]


Labelled = tuple[LabelledPicture, Origin]


def _chosen(training: Sequence[Labelled], settings: SelectionSettings, seed: int, left_out: Counter[str]) -> list[Labelled]:
    """New pictures, replay and base, under caps and in balance."""
    pools = {origin: _by_hash([each for each, of in training if of == origin], f"{seed}") for origin in _ORIGINS}
    replay_most = max(settings.replay_least, round(settings.replay_ratio * len(pools["new"])))
    # What the live model has not learned yet gets half, so that a night that was refused by bad luck is not lost.
    refused_most = max(replay_most // 2, replay_most - len(pools["old"]))
    old_most = replay_most - min(len(pools["refused"]), refused_most)
    limits: dict[Origin, int] = {"refused": refused_most, "old": old_most, "base": settings.base_most}
    for origin, limit in limits.items():
        left_out[_NOT_DRAWN[origin]] += len(pools[origin][limit:])
        pools[origin] = pools[origin][:limit]
    boxed = _within_caps([each for origin in _ORIGINS[:3] for each in pools[origin]], settings, left_out)
    kept = {each.sha256 for each in boxed}
    ranked = [(each, origin) for origin in _ORIGINS for each in pools[origin] if origin == "base" or each.sha256 in kept]
    return _balanced(ranked, settings.class_share, left_out)


def _within_caps(
    pictures: list[LabelledPicture], settings: SelectionSettings, left_out: Counter[str], where: str = ""
) -> list[LabelledPicture]:
    """Caps on annotators and sources. What two people agree on rests on neither alone, and the base set on nobody."""
    kept, over = capped(
        pictures,
        lambda each: each.annotators[0] if len(each.annotators) == 1 else None,
        share=settings.annotator_share,
        most=settings.annotator_most,
        floor=settings.cap_floor,
    )
    left_out[f"{where}over the limit of one annotator"] += len(over)
    kept, over = capped(
        kept,
        lambda each: None if each.base else each.source_id,
        share=settings.source_share,
        most=settings.source_most,
        floor=settings.cap_floor,
    )
    left_out[f"{where}over the limit of one source"] += len(over)
    return kept


def _balanced(ranked: Sequence[Labelled], class_share: float, left_out: Counter[str]) -> list[Labelled]:
    """Neither label has more than its share; the last in rank go first."""
    counts = Counter(each.tampered for each, _ in ranked)
    ratio = class_share / (1 - class_share) if class_share < 1 else float("inf")
    most = {label: ratio * counts[not label] if counts[not label] else counts[label] for label in (True, False)}
    seen: Counter[bool] = Counter()
    kept = []
    for each, origin in ranked:
        seen[each.tampered] += 1
        if seen[each.tampered] <= most[each.tampered]:
            kept.append((each, origin))
        else:
            left_out[f"more {_label(each.tampered)} pictures than fit the balance"] += 1
    return kept


def _tuning_clusters(pictures: Sequence[LabelledPicture], share: float) -> set[str]:
    """Whole clusters, first by hash, until each label has its share; never one that leaves less than half of a label."""
    sizes = Counter((each.cluster, each.tampered) for each in pictures)
    totals = Counter(each.tampered for each in pictures)
    got: Counter[bool] = Counter()
    tuning: set[str] = set()
    for cluster in sorted({each.cluster for each in pictures}, key=lambda name: _place(name, "tuning")):
        short = any(sizes[cluster, label] and got[label] < share * totals[label] for label in (True, False))
        fits = all(got[label] + sizes[cluster, label] <= totals[label] / 2 for label in (True, False))
        if short and fits:
            tuning.add(cluster)
            got.update({label: sizes[cluster, label] for label in (True, False)})
    return tuning


def _readiness(
    n_new: int, entries: Sequence[ManifestEntry], settings: SelectionSettings, promotion: PromotionSettings | None
) -> tuple[Readiness, str]:
    counts = Counter((entry.role, entry.tampered) for entry in entries)
    if n_new < settings.least_new:
        why = f"{n_new} newly annotated pictures to train on since the last run; it takes {settings.least_new}"
        return "nothing_new", why
    for tampered, least in ((True, settings.least_tampered), (False, settings.least_authentic)):
        found = counts["train", tampered]
        if found < least:
            advice = "draw boxes" if tampered else "mark pictures as authentic, or configure a base set"
            return "too_few", f"{found} {_label(tampered)} training pictures; it takes {least}: {advice}"
        if not counts["tune", tampered]:
            return "too_few", f"no {_label(tampered)} picture is left to tune on: all are of too few sources"
    held_out = [entry for entry in entries if entry.role == "holdout"]
    if promotion and (lacking := shortages(held_out, promotion)):
        return "too_few", "; ".join(lacking)
    roles: dict[Role, str] = {"train": "train", "tune": "tune", "holdout": "measure"}
    words = ", ".join(
        f"{counts[role, True]} manipulated and {counts[role, False]} authentic pictures to {verb}" for role, verb in roles.items()
    )
    return "ready", f"{n_new} new pictures; {words}"


def _entry(picture: LabelledPicture, origin: Origin, role: Role) -> ManifestEntry:
    return ManifestEntry(
        sha256=picture.sha256,
        tampered=picture.tampered,
        boxes=picture.boxes,
        weight=picture.weight,
        origin=origin,
        role=role,
        annotators=tuple(sorted(picture.annotators)),
        source_id=picture.source_id,
        cluster=picture.cluster,
    )


def _by_hash(pictures: Iterable[LabelledPicture], label: str) -> list[LabelledPicture]:
    return sorted(pictures, key=lambda each: _place(each.sha256, label))


def _place(name: str, label: str) -> str:
    return hashlib.sha256(f"{label}|{name}".encode()).hexdigest()


def _label(tampered: bool) -> str:
    return "manipulated" if tampered else "authentic"
