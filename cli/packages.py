"""What an extra of the package brings, asked for before anything is begun without it."""

from collections.abc import Iterable
from importlib.util import find_spec

from schemas.errors import EnvironmentMissing

_TRAINING = ("torch", "torchvision", "timm", "safetensors", "cv2", "matplotlib")
_WEB = ("argon2", "fastapi", "limits", "python_multipart", "uvicorn")


def need_training_packages() -> None:
    """Raises EnvironmentMissing naming what is not installed."""
    if missing := _missing(_TRAINING):
        raise EnvironmentMissing(f"training needs {', '.join(missing)}: pip install 'tamperwatch[train]'")


def need_web_packages() -> None:
    """Raises EnvironmentMissing naming what is not installed."""
    if missing := _missing(_WEB):
        raise EnvironmentMissing(f"the API and the page need {', '.join(missing)}: pip install 'tamperwatch[web]'")


def can_train() -> bool:
    """Whether the extra for training is installed."""
    return not _missing(_TRAINING)


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if find_spec(name) is None]
