"""Versions to swap to: the shipped network with other weights, or with the same ones under another name."""

import shutil
from pathlib import Path

import torch

from cli.stack import EmbeddedStack
from model.card import Card, FileRecord, builtin_directory
from model.checkpoint import WEIGHTS_NAME, load_student, round_to_half, save_weights
from model.export import BIN_NAME, export_openvino
from storage import registry
from storage.model_files import store_student

_NOISE = 0.02


def twin_of_shipped(stack: EmbeddedStack, folder: Path, number: int) -> str:
    """Store and register a version as a night does; its name. Odd numbers answer differently from the shipped one."""
    shutil.copytree(builtin_directory(), folder)
    card = Card.load(folder).model_copy(update={"version": f"swap-{number}"})
    if number % 2:
        card = _moved(card, folder, seed=number)
    card.save(folder)
    location = store_student(stack.blobs, folder, card.version)
    with stack.database.write() as session:
        registry.register(session, card.version, card.model_dump(mode="json"), location, "benchmark", "to swap to")
    return card.version


def _moved(card: Card, folder: Path, seed: int) -> Card:
    """The folder's student with every weight moved by a little, exported anew."""
    student = load_student(folder)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in student.parameters():
            weight.mul_(1 + _NOISE * torch.randn(weight.shape, generator=generator))
    round_to_half(student)
    save_weights(student, folder / WEIGHTS_NAME)
    xml = export_openvino(student, folder)
    paths = {"safetensors": folder / WEIGHTS_NAME, "openvino_xml": xml, "openvino_bin": folder / BIN_NAME}
    return card.model_copy(update={"files": {name: FileRecord.of(path) for name, path in paths.items()}})
