"""A student's weights on disk: fp16 safetensors, checked against the card. Never pickle."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.card import Card
from model.student import Student
from schemas.errors import ModelInvalid

WEIGHTS_NAME = "student.safetensors"
# What students published by 0.1.0 and before do not hold; zero is what they were trained and measured with.
LATER_NUMBERS = ("mask_shift", "mask_coupling")


def save_weights(student: Student, path: Path) -> None:
    """Write the state rounded to fp16; integer buffers stay as they are."""
    state = {name: _stored(tensor) for name, tensor in student.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def load_weights(student: Student, path: Path) -> None:
    """Read weights written by `save_weights` into a float32 student.

    Raises:
        ModelInvalid: the file is damaged or belongs to another architecture.
    """
    try:
        state = load_file(path)
        restored = {name: _restored(tensor) for name, tensor in state.items()}
        student.load_state_dict(dict.fromkeys(LATER_NUMBERS, torch.zeros(())) | restored)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ModelInvalid(f"{path} does not hold the weights of this student: {error}") from error


def load_student(directory: Path, card: Card | None = None) -> Student:
    """Build the student a card describes, in eval mode on the CPU, after checking the file's sha256.

    Args:
        directory: folder of card and weights.
        card: the folder's card, when the caller has read it already.

    Raises:
        ModelInvalid: card or weights are missing, damaged, or do not fit each other.
    """
    card = card or Card.load(directory)
    path = card.verified_path(directory, "safetensors")
    student = Student(card.student)
    load_weights(student, path)
    return student.eval()


def round_to_half(student: Student) -> None:
    """Round a student's weights to fp16 in place, so that what is exported and measured is what is stored."""
    with torch.no_grad():
        for tensor in student.state_dict().values():
            tensor.copy_(_restored(_stored(tensor)))


def _stored(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


def _restored(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
