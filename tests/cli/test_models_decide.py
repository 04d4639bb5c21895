"""`tamperwatch models promote|reject|rollback|import`: decisions by people, recorded, and students from elsewhere."""

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from cli import model_check, options
from cli.model_check import check_student
from model.card import CARD_NAME, Card, builtin_directory
from model.predictor import Prediction
from schemas.errors import ModelInvalid
from schemas.states import ModelAction
from storage import registry
from storage.database import Database
from tests.cli.conftest import Ran, Tamperwatch

PACKAGED = Card.load(builtin_directory()).version


@pytest.fixture
def versions(sqlite: Database) -> str:
    """The packaged student, live, and it again under other names; the database's URL."""
    card = Card.load(builtin_directory()).model_dump(mode="json")
    with sqlite.write() as session:
        registry.ensure_live(session, PACKAGED, card, registry.PACKAGE_LOCATION)
        for name in ("night-1", "night-2"):
            registry.register(session, name, card, str(builtin_directory()), "trainer", "trained")
    return sqlite.url


def live(database: Database) -> str:
    with database.read() as session:
        row = registry.live(session)
        assert row is not None
        return row.version


def last(database: Database) -> tuple[str, str, str, str]:
    with database.read() as session:
        decision = registry.decisions(session)[-1]
    return decision.action.value, decision.version, decision.who, decision.reason


def run(tamperwatch: Tamperwatch, database: Database, *argv: str, tmp_path: Path | None = None) -> Ran:
    places = (
        {} if tmp_path is None else {"BLOBS__DIRECTORY": str(tmp_path / "blobs"), "ENGINE__MODEL_CACHE": str(tmp_path / "cache")}
    )
    return tamperwatch("models", *argv, DATABASE_URL=database.url, **places)


@pytest.mark.usefixtures("versions")
def test_a_promotion_is_recorded_with_its_person_and_its_reason(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    ran = run(tamperwatch, sqlite, "promote", "night-1", "--reason", "fewer false alarms", "--by", "anna", "--yes")

    assert ran.code == 0, ran.err
    assert f"night-1 is live; {PACKAGED} is retired" in ran.out and "within 10 s" in ran.out
    assert last(sqlite) == ("promote", "night-1", "anna", "fewer false alarms")
    assert "is live already" in run(tamperwatch, sqlite, "promote", "night-1", "--reason", "again", "--yes").out


@pytest.mark.usefixtures("versions")
def test_who_decides_is_whoever_is_logged_in(tamperwatch: Tamperwatch, sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "carla")
    run(tamperwatch, sqlite, "reject", "night-1", "--reason", "marks watermarks", "--yes")
    assert last(sqlite) == ("reject", "night-1", "carla", "marks watermarks")

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(options.getpass, "getuser", nobody)
    ran = run(tamperwatch, sqlite, "reject", "night-2", "--reason", "same", "--yes")
    assert (ran.code, "--by NAME" in ran.err) == (2, True)


@pytest.mark.usefixtures("versions")
def test_a_rejected_version_needs_an_override(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    run(tamperwatch, sqlite, "reject", "night-1", "--reason", "worse on WeChat", "--by", "bob", "--yes")

    refused = run(tamperwatch, sqlite, "promote", "night-1", "--reason", "I like it", "--by", "anna", "--yes")
    assert (refused.code, live(sqlite)) == (2, PACKAGED)
    assert "rejected by bob: worse on WeChat" in refused.err and "--override" in refused.err
    ran = run(tamperwatch, sqlite, "promote", "night-1", "--reason", "I like it", "--by", "anna", "--override", "--yes")
    assert (ran.code, live(sqlite)) == (0, "night-1")
    with sqlite.read() as session:
        assert registry.decisions(session)[-1].figures == {"override": True}
    shown = json.loads(run(tamperwatch, sqlite, "show", "night-1", "--json").out)
    assert [each["action"] for each in shown["decisions"]] == ["register", "reject", "promote"]


@pytest.mark.usefixtures("versions")
def test_rolling_back(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    for name in ("night-1", "night-2"):
        run(tamperwatch, sqlite, "promote", name, "--reason", "better", "--yes")

    assert "night-1 is live; night-2 is retired" in run(tamperwatch, sqlite, "rollback", "--reason", "worse", "--yes").out
    run(tamperwatch, sqlite, "rollback", "--reason", "worse still", "--yes")
    assert live(sqlite) == PACKAGED
    ran = run(tamperwatch, sqlite, "rollback", "--reason", "and again", "--yes")
    assert (ran.code, "no version was live before" in ran.err) == (2, True)
    run(tamperwatch, sqlite, "rollback", "--to", "night-2", "--reason", "it was right", "--by", "anna", "--yes")
    assert (live(sqlite), last(sqlite)) == ("night-2", ("rollback", "night-2", "anna", "it was right"))


@pytest.mark.usefixtures("versions")
def test_it_asks_a_person_and_nobody_else(tamperwatch: Tamperwatch, sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    unasked = run(tamperwatch, sqlite, "promote", "night-1", "--reason", "r")
    assert (unasked.code, "give --yes" in unasked.err, live(sqlite)) == (2, True, PACKAGED)
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    no = run(tamperwatch, sqlite, "promote", "night-1", "--reason", "r")
    assert (no.code, live(sqlite)) == (1, PACKAGED)
    assert f"Make night-1 live in place of {PACKAGED}?" in no.out
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run(tamperwatch, sqlite, "promote", "night-1", "--reason", "r").code == 0
    assert live(sqlite) == "night-1"


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("promote", "nobody", "--reason", "r"), "no model version 'nobody'"),
        (("reject", PACKAGED, "--reason", "r"), "is live; roll back"),
        (("rollback", "--to", "night-1", "--reason", "r"), "was never live"),
        (("promote", "night-1", "--reason", " "), "say why"),
        (("promote", "night-1"), "--reason"),
        (("promote", "night-1", "--reason", "r", "--by", ""), "who decides"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(
    tamperwatch: Tamperwatch, sqlite: Database, argv: tuple[str, ...], words: str
) -> None:
    ran = run(tamperwatch, sqlite, *argv, "--yes")

    assert (ran.code, live(sqlite)) == (2, PACKAGED)
    assert words in " ".join(ran.err.split())


@pytest.mark.usefixtures("versions")
def test_a_version_whose_files_cannot_be_had_is_not_promoted(tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    with sqlite.write() as session:
        registry.register(session, "lost", {}, f"blob:models/lost/{'0' * 64}", "trainer", "trained")
    ran = run(tamperwatch, sqlite, "promote", "lost", "--reason", "r", "--yes", tmp_path=tmp_path)
    assert (ran.code, live(sqlite)) == (3, PACKAGED)
    assert "gone from the blob store" in " ".join(ran.err.split())


def renamed(tmp_path: Path, version: str) -> Path:
    """The packaged student's folder under another name."""
    folder = Path(shutil.copytree(builtin_directory(), tmp_path / version))
    card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8")) | {"version": version}
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    return folder


@pytest.mark.usefixtures("versions")
def test_a_student_from_elsewhere_becomes_a_candidate_that_every_worker_can_fetch(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "find_spec", lambda _: None)
    folder = renamed(tmp_path, "October-1")
    ran = run(tamperwatch, sqlite, "import", str(folder), "--by", "anna", "--reason", "october", tmp_path=tmp_path)

    assert ran.code == 0, ran.err
    assert "October-1 is a candidate now (torch is not installed" in ran.out
    with sqlite.read() as session:
        row, (decision,) = registry.get(session, "October-1"), registry.decisions(session, "October-1")
    assert (row.stage.value, row.location.startswith("blob:models/sha256-")) == ("candidate", True)
    assert (decision.action, decision.who, decision.reason) == (ModelAction.IMPORT, "anna", "october")
    shutil.rmtree(folder)
    promoted = run(tamperwatch, sqlite, "promote", "October-1", "--reason", "r", "--yes", tmp_path=tmp_path)
    assert (promoted.code, live(sqlite)) == (0, "October-1")
    assert len(list((tmp_path / "cache").glob("*/*/card.json"))) == 1


@pytest.mark.usefixtures("versions")
def test_importing_again_changes_nothing_and_another_of_that_name_is_refused(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path
) -> None:
    again = run(tamperwatch, sqlite, "import", str(builtin_directory()), tmp_path=tmp_path)
    assert again.code == 0 and "is known already (live)" in " ".join(again.out.split())
    folder = renamed(tmp_path, "night-1")
    card = json.loads((folder / CARD_NAME).read_text(encoding="utf-8"))
    card["files"]["openvino_bin"]["sha256"] = "0" * 64
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    other = run(tamperwatch, sqlite, "import", str(folder), tmp_path=tmp_path)
    assert (other.code, "another student is registered as night-1" in " ".join(other.err.split())) == (2, True)
    assert not (tmp_path / "blobs").exists()


@pytest.mark.usefixtures("versions")
def test_a_damaged_student_is_not_taken_in(tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    folder = renamed(tmp_path, "broken-1")
    weights = folder / "student.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    ran = run(tamperwatch, sqlite, "import", str(folder), tmp_path=tmp_path)
    assert (ran.code, "does not match the sha256" in " ".join(ran.err.split())) == (3, True)
    assert run(tamperwatch, sqlite, "import", str(tmp_path / "nowhere")).code == 2
    assert run(tamperwatch, sqlite, "import", str(tmp_path)).code == 3
    with sqlite.read() as session:
        assert len(registry.versions(session)) == 3
    assert not (tmp_path / "blobs").exists()


@pytest.mark.slow
def test_both_engines_agree_on_the_packaged_student() -> None:
    checked = check_student(builtin_directory(), 1e-3)
    assert checked.card.version == PACKAGED
    assert checked.parity is not None and checked.parity < 1e-4


def test_networks_that_disagree_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = model_check._answers

    def shifted(predictor: object, pictures: object) -> list[Prediction]:
        found = true(predictor, pictures)  # type: ignore[arg-type]
        return [Prediction(each.mask_net, each.score_logit + shift.pop(0)) for each in found]

    shift = [0.0, 0.0, 0.0, 0.5]
    monkeypatch.setattr(model_check, "_answers", shifted)
    load = model_check.Predictor.load
    monkeypatch.setattr(model_check.Predictor, "load", lambda folder, *_, **__: load(folder, "openvino", threads=1))
    with pytest.raises(ModelInvalid, match="differs from torch by"):
        check_student(builtin_directory(), 1e-3)


def test_a_network_that_answers_otherwise_alone_than_in_a_batch_is_found() -> None:
    class Moody:
        card = Card.load(builtin_directory())
        engine = type("Engine", (), {"name": "stub"})()

        def predict(self, pictures: list[object]) -> list[Prediction]:
            side = self.card.student.mask_size
            return [Prediction(model_check.np.full((side, side), 10 * len(pictures), "uint8"), 0.0) for _ in pictures]

    with pytest.raises(ModelInvalid, match="alone than in a batch"):
        model_check._answers(Moody(), model_check.drawn_pictures(64))  # type: ignore[arg-type]
