"""The shipped student with a smaller input: the same weights and layers, a fraction of the arithmetic.

It measures what is around a network that is fast, and stands in where the shipped one would take hours. Its answers mean nothing.
"""

from dataclasses import replace
from pathlib import Path

from model.card import Card, FileRecord, builtin_directory
from storage import registry
from storage.database import Database


def small_student(folder: Path, input_size: int) -> Path:
    """Write it into a folder, with a version of its own, and return the folder.

    Args:
        folder: made here.
        input_size: side of its input in pixels, a multiple of 32.
    """
    # Here, so that whoever measures with the shipped student needs no torch.
    from model.checkpoint import WEIGHTS_NAME, load_weights, save_weights
    from model.export import BIN_NAME, export_openvino
    from model.student import Student

    shipped = Card.load(builtin_directory())
    config = replace(shipped.student, input_size=input_size)
    student = Student(config).eval()
    load_weights(student, builtin_directory() / WEIGHTS_NAME)
    folder.mkdir(parents=True)
    save_weights(student, folder / WEIGHTS_NAME)
    xml = export_openvino(student, folder)
    paths = {"safetensors": folder / WEIGHTS_NAME, "openvino_xml": xml, "openvino_bin": folder / BIN_NAME}
    files = {key: FileRecord.of(path) for key, path in paths.items()}
    card = shipped.model_copy(update={"version": f"{shipped.version}-at-{input_size}", "student": config, "files": files})
    card.save(folder)
    return folder


def make_live(student: Path, database: Database) -> None:
    """Let the workers of a migrated database audit with the student in this folder."""
    card = Card.load(student)
    with database.write() as session:
        registry.register(session, card.version, card.model_dump(mode="json"), str(student), "benchmark", "to measure with")
        registry.promote(session, card.version, "benchmark", "to measure with")
