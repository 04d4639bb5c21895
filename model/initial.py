"""Training on from an earlier student: a published one, or the averaged one of another run, perhaps at another input size."""

import hashlib
from dataclasses import asdict
from pathlib import Path

from torch import nn

from model.card import CARD_NAME, Card
from model.checkpoint import load_student
from model.config import StudentConfig
from model.distill import averaged_student
from model.run_folder import RUN_NAME
from model.student import Student
from model.trainer import InitialWeights
from schemas.errors import InvalidInput

# What may differ: none of them changes a weight's shape or meaning.
FREE_KEYS = frozenset({"input_size"})


def initial_weights(path: Path, student: StudentConfig) -> InitialWeights:
    """Read the weights a run is to start from.

    Args:
        path: folder of a published student, or of a run.
        student: the network to be trained; it may differ from the earlier one in input size only.

    Raises:
        InvalidInput: the folder holds neither, or another network.
        ModelInvalid: the published student is damaged.
    """
    if (path / CARD_NAME).is_file():
        earlier = load_student(path)
        name = Card.load(path).version
    elif (path / RUN_NAME).is_file():
        earlier, config, record = averaged_student(path)
        name = f"{config.name} at step {record['step']}"
    else:
        raise InvalidInput(f"--initial {path} holds neither a published student ({CARD_NAME}) nor a training run ({RUN_NAME})")
    ours, theirs = asdict(student), asdict(earlier.config)
    different = [
        f"{key} is {ours[key]!r}, was {theirs[key]!r}" for key in ours if key not in FREE_KEYS and ours[key] != theirs[key]
    ]
    if different:
        raise InvalidInput(f"--initial {path} is another network than the config's: {'; '.join(different)}")
    # Fitted for publishing; training starts without them.
    nn.init.zeros_(earlier.mask_shift)
    nn.init.zeros_(earlier.mask_coupling)
    return InitialWeights(f"{name} ({_digest(earlier)})", earlier.state_dict())


def _digest(student: Student) -> str:
    """First digits of the sha256 of all weights, in order."""
    digest = hashlib.sha256()
    for tensor in student.state_dict().values():
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
