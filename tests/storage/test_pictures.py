from collections.abc import Callable

import pytest

from schemas.states import AnnotationKind, AnnotationOrigin
from schemas.tables import Picture
from storage import annotations, jobs, pictures
from storage.annotation_checks import NewAnnotation
from storage.database import Database
from storage.jobs import NewJob

A, B, C, D = ("a0" * 32, "b0" * 32, "c0" * 32, "a1" * 32)


@pytest.fixture
def filled(database: Database, new_job: Callable[..., NewJob]) -> Database:
    """A and B were audited, both also under one name; C is only annotated; D is only kept."""
    rows = [
        new_job("ref-a", sha256=A, source="x/a.jpg"),
        new_job("ref-a2", sha256=A, source="copy of a.jpg"),
        new_job("ref-b", sha256=B, source="x/b.jpg"),
        new_job("old", sha256=A, source="same.jpg"),
        new_job("new", sha256=B, source="same.jpg"),
        new_job("broken", sha256=None, source="broken.jpg"),
    ]
    with database.write() as session:
        for row in rows:
            jobs.add_jobs(session, [row])
        word = NewAnnotation(C, "anna", AnnotationKind.AUTHENTIC, AnnotationOrigin.PAGE)
        annotations.add_annotation(session, word)
        pictures.keep_pictures(session, {D: 7})
    return database


def test_what_names_stand_for(filled: Database) -> None:
    names = ["ref-a", "x/b.jpg", "same.jpg", "broken.jpg", "nowhere", B, C, D, "ff" * 32]
    with filled.read() as session:
        found = pictures.pictures_named(session, names)
    assert found == {"ref-a": {A}, "x/b.jpg": {B}, "same.jpg": {A, B}, B: {B}, C: {C}, D: {D}}


def test_a_reference_goes_before_a_source(filled: Database, new_job: Callable[..., NewJob]) -> None:
    with filled.write() as session:
        jobs.add_jobs(session, [new_job("x/a.jpg", sha256=B, source="other")])
        assert pictures.pictures_named(session, ["x/a.jpg"]) == {"x/a.jpg": {B}}


def test_known_and_kept(filled: Database) -> None:
    with filled.read() as session:
        assert pictures.known_pictures(session, [A, B, C, D, "ff" * 32]) == {A, B, C, D}
        assert pictures.kept_pictures(session, [A, C, D]) == {A, D}


def test_pictures_by_the_beginning_of_their_sha256(filled: Database) -> None:
    with filled.read() as session:
        assert pictures.pictures_beginning(session, "a") == [A, D]
        assert pictures.pictures_beginning(session, "c0c0") == [C]
        assert pictures.pictures_beginning(session, B) == [B]
        assert pictures.pictures_beginning(session, "d") == []


def test_a_picture_is_called_what_its_last_job_called_it(filled: Database) -> None:
    with filled.read() as session:
        assert pictures.names_of(session, [A, B, C]) == {A: "same.jpg", B: "same.jpg"}


def test_what_is_kept_stays_as_it_is(filled: Database) -> None:
    with filled.write() as session:
        pictures.keep_pictures(session, {D: 99, C: 5})
        pictures.keep_pictures(session, {})
    with filled.read() as session:
        sizes = {sha256: row.bytes for sha256 in (C, D) if (row := session.get(Picture, sha256))}
    assert sizes == {C: 5, D: 7}
