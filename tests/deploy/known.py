"""What deploy files may name: settings, verbs, metrics."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

import storage.telemetry_runs  # noqa: F401 - beat's and trainer's metrics
from cli.main import app
from schemas.settings import SECRETS_DIR_VARIABLE, Settings
from storage.telemetry import REGISTRY
from workers.queue_metrics import _families

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def setting_names() -> set[str]:
    """Every variable that a role reads."""
    return {SECRETS_DIR_VARIABLE, *_leaves(Settings, "TAMPERWATCH_")}


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def command() -> Any:
    """The command line, as click knows it."""
    return typer.main.get_command(app)


def metric_names() -> set[str]:
    """Every series that some role exports, with the endings that Prometheus gives to its parts."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",), "unknown": ("",)}
    families = [*REGISTRY.collect(), *_families()]
    return {f"{family.name}{ending}" for family in families for ending in endings[family.type]}
