"""What an extra of the package brings, asked for before anything is begun without it."""

from importlib.util import find_spec

from schemas.errors import EnvironmentMissing

_TRAINING = ("torch", "torchvision", "timm", "safetensors", "cv2", "matplotlib")


def need_training_packages() -> None:
    """Raises EnvironmentMissing naming what is not installed."""
    missing = [name for name in _TRAINING if find_spec(name) is None]
    if missing:
        raise EnvironmentMissing(f"training needs {', '.join(missing)}: pip install 'tamperwatch[train]'")
