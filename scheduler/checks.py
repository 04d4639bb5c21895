"""What the promotion rule says: one check at a time, and the decision."""

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """One thing that was held against the rule. `difference` is candidate minus live; empty where nothing was compared."""

    model_config = ConfigDict(frozen=True)

    name: str
    passed: bool
    sentence: str
    candidate: float | None = None
    live: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    margin: float | None = None


class Decision(BaseModel):
    """Whether to promote, every check with its numbers, and one paragraph for people."""

    model_config = ConfigDict(frozen=True)

    promote: bool
    checks: tuple[Check, ...]
    summary: str
