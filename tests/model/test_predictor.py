"""The two engines on the student that ships: the same masks, alone or in a batch, and errors that say what to do."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.card import CARD_NAME, Card, builtin_directory
from model.predictor import Predictor
from model.preprocess import stretch
from schemas.errors import DeviceMemoryFull, EnvironmentMissing, InvalidInput, ModelInvalid
from tests.hostile import drawn

ENGINE_FILES = [("openvino", "openvino_xml"), ("openvino", "openvino_bin"), ("torch", "safetensors")]
PARITY = 1e-3
"""Of probabilities, in float32: the bound that every exported student must keep."""


@pytest.fixture(scope="module")
def openvino_student() -> Predictor:
    return Predictor.load(builtin_directory(), "openvino", threads=1)


@pytest.fixture(scope="module")
def torch_student() -> Predictor:
    return Predictor.load(builtin_directory(), "torch")


@pytest.fixture(scope="module")
def pictures(openvino_student: Predictor) -> list[NDArray[np.uint8]]:
    """Eight unlike ones: flat, noise, drawn, pasted."""
    side, rng = openvino_student.input_size, np.random.default_rng(5)
    noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    quadrants = stretch(drawn(), side)
    pasted = quadrants.copy()
    pasted[side // 4 : side // 2, side // 3 : side // 2] = noise[: side // 2 - side // 4, : side // 2 - side // 3]
    smooth = stretch(Image.effect_noise((40, 30), 60).convert("RGB"), side)
    flats = [np.full((side, side, 3), level, np.uint8) for level in (0, 128, 255)]
    return [*flats, noise, quadrants, pasted, smooth, pasted[:, ::-1].copy()]


def both(
    openvino_student: Predictor, torch_student: Predictor, batch: list[NDArray[np.uint8]]
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    return [student.engine(np.stack(batch)) for student in (openvino_student, torch_student)]


@pytest.mark.parametrize("count", [1, 8])
def test_the_engines_agree(
    openvino_student: Predictor, torch_student: Predictor, pictures: list[NDArray[np.uint8]], count: int
) -> None:
    batch = pictures[-count:]
    (prob, logit), (torch_prob, torch_logit) = both(openvino_student, torch_student, batch)

    assert np.abs(prob - torch_prob).max() <= PARITY
    assert np.abs(1 / (1 + np.exp(-logit)) - 1 / (1 + np.exp(-torch_logit))).max() <= PARITY
    for mine, theirs in zip(openvino_student.predict(batch), torch_student.predict(batch), strict=True):
        assert np.abs(mine.mask_net.astype(int) - theirs.mask_net.astype(int)).max() <= 1


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_a_picture_has_the_same_mask_alone_and_in_a_batch(
    engine: str, pictures: list[NDArray[np.uint8]], request: pytest.FixtureRequest
) -> None:
    student: Predictor = request.getfixturevalue(f"{engine}_student")
    together = student.predict(pictures)
    alone = [student.predict([picture])[0] for picture in pictures]

    for one, many in zip(alone, together, strict=True):
        assert np.abs(one.mask_net.astype(int) - many.mask_net.astype(int)).max() <= 1
        assert one.score_logit == pytest.approx(many.score_logit, abs=5e-3)
    assert len({mask.mask_net.tobytes() for mask in together}) > 4  # they are not all the same mask


def test_order_is_kept(openvino_student: Predictor, pictures: list[NDArray[np.uint8]]) -> None:
    forward, backward = openvino_student.predict(pictures), openvino_student.predict(pictures[::-1])

    for one, other in zip(forward, backward[::-1], strict=True):
        assert np.abs(one.mask_net.astype(int) - other.mask_net.astype(int)).max() <= 1


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_shapes_and_types(engine: str, pictures: list[NDArray[np.uint8]], request: pytest.FixtureRequest) -> None:
    student: Predictor = request.getfixturevalue(f"{engine}_student")
    side = student.card.student.mask_size

    prob, score_logit = student.engine(np.stack(pictures[:3]))
    predictions = student.predict(pictures[:3])

    assert student.engine.name == engine
    assert (prob.shape, prob.dtype) == ((3, side, side), np.float32)
    assert (score_logit.shape, score_logit.dtype) == ((3,), np.float32)
    assert 0 <= prob.min() <= prob.max() <= 1
    for prediction in predictions:
        assert (prediction.mask_net.shape, prediction.mask_net.dtype) == ((side, side), np.uint8)
        assert type(prediction.score_logit) is float


def test_answers_outlive_the_next_call(openvino_student: Predictor, pictures: list[NDArray[np.uint8]]) -> None:
    """An engine may reuse its own buffers, never the caller's."""
    first = openvino_student.engine(pictures[3][None])
    kept = [array.copy() for array in first]
    openvino_student.engine(pictures[4][None])

    assert all(np.array_equal(before, after) for before, after in zip(kept, first, strict=True))


def test_auto_is_openvino_on_the_cpu() -> None:
    assert Predictor.load(builtin_directory(), threads=1).engine.name == "openvino"


def test_openvino_needs_no_torch() -> None:
    script = (
        "import sys; import numpy as np; from model.card import builtin_directory; from model.predictor import Predictor;"
        "student = Predictor.load(builtin_directory(), threads=1);"
        "student.predict([np.zeros((student.input_size, student.input_size, 3), np.uint8)]);"
        "print(sorted({'torch', 'timm', 'torchvision', 'cv2'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]

    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)

    assert shown.stdout.strip() == "[]"


def test_what_serves_is_what_is_measured_rounded(
    openvino_student: Predictor, torch_student: Predictor, pictures: list[NDArray[np.uint8]]
) -> None:
    for student in (openvino_student, torch_student):
        prob, score_logit = student.engine(np.stack(pictures))
        for prediction, each, logit in zip(student.predict(pictures), prob, score_logit, strict=True):
            # Not to the bit: sums over a batch may be done in another order in another call.
            assert np.abs(prediction.mask_net - each * 255.0).max() <= 0.51
            assert prediction.score_logit == pytest.approx(float(logit), abs=1e-4)


def test_what_an_engine_does_not_tell_is_assumed_of_a_plain_cpu(openvino_student: Predictor, torch_student: Predictor) -> None:
    for student in (openvino_student, torch_student):
        assert (student.lanes, student.searches, student.memory_share()) == (1, False, 0.0)
    assert openvino_student.busy_s == 0
    before = torch_student.busy_s
    side = torch_student.input_size
    torch_student.predict([np.zeros((side, side, 3), np.uint8)])
    assert torch_student.busy_s > before


class FullDevice:
    """Compiled student whose requests find no memory while `full`; counts the requests it made."""

    def __init__(self, compiled: object, words: str) -> None:
        self._compiled = compiled
        self.words = words
        self.full = True

    def create_infer_request(self) -> object:
        if self.full:
            raise RuntimeError(self.words)
        return self._compiled.create_infer_request()  # type: ignore[attr-defined]


def test_openvino_without_memory_is_named_and_goes_on_when_there_is_some(pictures: list[NDArray[np.uint8]]) -> None:
    student = Predictor.load(builtin_directory(), "openvino", threads=1)
    engine: Any = student.engine
    before = student.predict(pictures[:1])[0]
    device = engine._compiled = FullDevice(engine._compiled, "Exception from src/inference: std::bad_alloc")
    with pytest.raises(DeviceMemoryFull, match=r"2 pictures do not fit into the free memory of the CPU.*bad_alloc"):
        student.predict(pictures[:2])
    device.words = "a defect of another kind"
    with pytest.raises(RuntimeError, match="another kind"):
        student.predict(pictures[:2])
    device.full = False
    assert np.array_equal(student.predict(pictures[:2])[0].mask_net, before.mask_net)


@pytest.mark.parametrize(
    ("engine", "device", "words"),
    [
        ("openvino", "cuda:0", "runs on cpu, not on cuda:0"),
        ("auto", "gpu", "not a device"),
        ("torch", "CPU!", "not a device"),
        ("torch", "meta", "runs on cpu or cuda:N, not on meta"),
    ],
)
def test_a_device_the_engine_cannot_use(engine: str, device: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Predictor.load(builtin_directory(), engine, device=device)


@pytest.mark.parametrize(("engine", "extra"), [("torch", r"tamperwatch\[gpu\]"), ("openvino", "pip install openvino")])
def test_a_missing_package_is_named(engine: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(EnvironmentMissing, match=extra):
        Predictor.load(builtin_directory(), engine)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A student folder of the test's own."""
    return Path(shutil.copytree(builtin_directory(), tmp_path / "student"))


@pytest.mark.parametrize(
    ("engine", "key"), [("openvino", "openvino_xml"), ("openvino", "openvino_bin"), ("torch", "safetensors")]
)
def test_replaced_weights_are_refused(copy: Path, engine: str, key: str) -> None:
    path = copy / Card.load(copy).files[key].name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with pytest.raises(ModelInvalid, match="does not match the sha256"):
        Predictor.load(copy, engine)


def test_an_engines_files_may_be_absent_but_not_silently(copy: Path) -> None:
    card = json.loads((copy / CARD_NAME).read_text(encoding="utf-8"))
    del card["files"]["openvino_xml"]
    (copy / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")

    with pytest.raises(ModelInvalid, match="carries no 'openvino_xml' file"):
        Predictor.load(copy)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"card\.json does not exist"):
        Predictor.load(tmp_path)
