"""SAM as teacher, with a random-weight SAM of 128 pixels built from the package's own parts."""

import hashlib
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from model.config import TrainConfig
from model.mask_files import facts_of, taught
from model.sam import BOXES_A_CALL, SamTeacher, box_iou, judge, load_sam
from model.sam_checkpoints import SAM_CHECKPOINTS, SamCheckpoint
from model.teacher import teacher_for
from schemas.errors import DeviceMemoryFull, EnvironmentMissing, InvalidInput
from schemas.geometry import PixelBox

SIDE_PX = 128
DISC = PixelBox.of(100, 40, 180, 120)  # of a picture of 256 x 192, which is 128 x 96 in SAM's frame


def tiny_sam(embed_dim: int = 32) -> Sam:
    torch.manual_seed(4)
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=embed_dim,
            img_size=SIDE_PX,
            mlp_ratio=2,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=4,
            out_chans=32,
        ),
        prompt_encoder=PromptEncoder(32, (8, 8), (SIDE_PX, SIDE_PX), mask_in_chans=4),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=32, num_heads=2),
            transformer_dim=32,
            iou_head_depth=3,
            iou_head_hidden_dim=16,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    with torch.no_grad():  # as it comes, every logit is almost 0
        for mlp in sam.mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 60
        sam.mask_decoder.iou_prediction_head.layers[-1].bias += 0.7
    return sam.eval()


@pytest.fixture
def sam() -> Sam:
    return tiny_sam()


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    image = Image.fromarray(np.random.default_rng(1).integers(40, 110, (192, 256, 3), dtype=np.uint8))
    ImageDraw.Draw(image).ellipse((DISC.x0, DISC.y0, DISC.x1 - 1, DISC.y1 - 1), fill=(220, 180, 40))
    return image


def counted(module: nn.Module) -> list[int]:
    """Grows by the size of the batch with every forward pass."""
    calls: list[int] = []
    module.register_forward_hook(
        lambda _module, _inputs, output: calls.append(len(output[0] if isinstance(output, tuple) else output))
    )
    return calls


def decoder_that_sees(monkeypatch: pytest.MonkeyPatch, sam: Sam, draw: Callable[[ImageDraw.ImageDraw, int], None]) -> None:
    """Let SAM propose drawn masks: logits +-6 at a quarter of its frame, predicted IoUs .9, .8, .95."""
    logits = torch.full((3, SIDE_PX // 4, SIDE_PX // 4), -6.0)
    for index in range(3):
        mask = Image.new("L", (SIDE_PX // 4, SIDE_PX // 4))
        draw(ImageDraw.Draw(mask), index)
        logits[index][torch.from_numpy(np.asarray(mask) > 0)] = 6.0

    def forward(sparse_prompt_embeddings: Tensor, multimask_output: bool, **_: Any) -> tuple[Tensor, Tensor]:
        assert multimask_output
        count = len(sparse_prompt_embeddings)
        return logits.expand(count, -1, -1, -1), torch.tensor([0.9, 0.8, 0.95]).expand(count, -1)

    monkeypatch.setattr(sam.mask_decoder, "forward", forward)


def whole_disc_and_part(draw: ImageDraw.ImageDraw, index: int) -> None:
    """SAM's three: the whole picture, the disc, and a part of it; net / 4 is the picture / 8."""
    shapes = [(0, 0, 31, 23), (12.5, 5, 22, 14.5), (14, 7, 16, 9)]
    (draw.rectangle if index != 1 else draw.ellipse)(shapes[index], fill=255)


def test_the_candidate_that_fits_the_box_is_taken(monkeypatch: pytest.MonkeyPatch, sam: Sam, picture: Image.Image) -> None:
    decoder_that_sees(monkeypatch, sam, whole_disc_and_part)
    made = SamTeacher(sam, "drawn", outside_label=0.2).pseudo_mask(picture, [DISC.loosened(0.1, *picture.size)])
    truth = np.zeros((192, 256), dtype=bool)
    y, x = np.mgrid[:192, :256]
    truth[(x + 0.5 - 140) ** 2 + (y + 0.5 - 80) ** 2 < 40**2] = True
    found = made.soft > 127
    assert (found & truth).sum() / (found | truth).sum() > 0.85
    assert made.soft[80, 140] > 250
    assert made.soft[34, 94] == round(0.2 * 255)  # in the box, beside the disc
    assert made.soft[10, 10] == 0
    agreement, predicted, stability = 80 * 80 / 96 / 96, 0.8, 0.95
    assert made.quality == pytest.approx((agreement * predicted * stability) ** (1 / 3), abs=0.05)


def test_what_spills_over_the_box_is_cut_and_trusted_less(
    monkeypatch: pytest.MonkeyPatch, sam: Sam, picture: Image.Image
) -> None:
    decoder_that_sees(monkeypatch, sam, lambda draw, _: draw.rectangle((0, 0, 31, 23), fill=255))
    made = SamTeacher(sam, "drawn").pseudo_mask(picture, [DISC])
    inside = np.zeros((192, 256), dtype=bool)
    inside[DISC.y0 : DISC.y1, DISC.x0 : DISC.x1] = True
    assert made.soft[~inside].max() == 0
    assert made.soft[DISC.y0 + 2 : DISC.y1 - 2, DISC.x0 + 2 : DISC.x1 - 2].min() > 250
    assert made.quality < 0.6


def test_a_box_in_which_sam_sees_nothing_is_taken_whole(monkeypatch: pytest.MonkeyPatch, sam: Sam, picture: Image.Image) -> None:
    decoder_that_sees(monkeypatch, sam, lambda _draw, _: None)
    made = SamTeacher(sam, "drawn").pseudo_mask(picture, [DISC, PixelBox.of(0, 0, 256, 192)])
    assert made.quality == 0
    assert made.soft.min() == 255


def test_one_embedding_serves_all_boxes(sam: Sam, picture: Image.Image) -> None:
    encoded, decoded = counted(sam.image_encoder), counted(sam.mask_decoder)
    boxes = [PixelBox.of(8 * index, 10, 8 * index + 40, 60) for index in range(2 * BOXES_A_CALL + 3)]
    SamTeacher(sam, "tiny").pseudo_mask(picture, boxes)
    assert encoded == [1]
    assert decoded == [BOXES_A_CALL, BOXES_A_CALL, 3]


def test_boxes_together_are_the_maximum_of_boxes_alone(sam: Sam, picture: Image.Image) -> None:
    boxes = [DISC, PixelBox.of(10, 10, 90, 150), PixelBox.of(120, 60, 256, 192), PixelBox.of(0, 0, 3, 2)]
    teacher = SamTeacher(sam, "tiny")
    alone = [teacher.pseudo_mask(picture, [box]) for box in boxes]
    together = teacher.pseudo_mask(picture, boxes)
    expected = np.max([made.soft for made in alone], axis=0).astype(int)
    assert np.abs(together.soft - expected).max() <= 1
    assert together.quality == pytest.approx(np.mean([made.quality for made in alone]), abs=1e-5)
    assert len(np.unique(together.soft)) > 50  # soft, and not the boxes alone


def test_the_logits_are_those_of_sams_own_predictor(sam: Sam) -> None:
    """At SAM's own size the net frame is the picture's, so that the two must agree."""
    image = Image.fromarray(np.random.default_rng(2).integers(0, 256, (96, SIDE_PX, 3), dtype=np.uint8))
    box = PixelBox.of(20, 15, 100, 80)
    reference = SamPredictor(sam)
    reference.set_image(np.asarray(image))
    logits, predicted, _ = reference.predict(box=np.array(box.as_tuple()), multimask_output=True, return_logits=True)
    judged = judge(torch.from_numpy(logits)[None], torch.from_numpy(predicted)[None], torch.tensor([box.as_tuple()]).float())
    part = (slice(box.y0, box.y1), slice(box.x0, box.x1))
    expected = 255 * torch.sigmoid(judged.logits_net[0]).numpy()[part].clip(0.1)
    made = SamTeacher(sam, "tiny").pseudo_mask(image, [box])
    assert made.quality == pytest.approx(float(judged.quality[0]), abs=1e-5) != 0
    assert np.abs(made.soft[part] - expected).max() <= 1


def test_the_same_box_gives_the_same_mask(sam: Sam, picture: Image.Image) -> None:
    first, second = (SamTeacher(sam, "tiny").pseudo_mask(picture, [DISC]) for _ in range(2))
    assert np.array_equal(first.soft, second.soft)
    assert first.quality == second.quality
    assert 0 <= first.quality <= 1


def test_quality_is_bounded_and_zero_for_empty_masks() -> None:
    logits = torch.full((2, 3, 8, 8), -9.0)
    logits[0, :, 2:6, 2:6] = 9.0
    judged = judge(logits, torch.tensor([[7.0, 0.5, -2.0]]).expand(2, -1), torch.tensor([[2.0, 2.0, 6.0, 6.0]]).expand(2, -1))
    assert judged.quality.tolist() == [1.0, 0.0]


def test_an_unstable_mask_is_trusted_less() -> None:
    """Half of the object's pixels are within one unit of the threshold: stability 1/2."""
    logits = torch.full((1, 3, 8, 8), -9.0)
    logits[:, :, 2:6, 2:6] = 9.0
    logits[:, :, 2:4, 2:6] = 0.5
    judged = judge(logits, torch.ones(1, 3), torch.tensor([[2.0, 2.0, 6.0, 6.0]]))
    assert judged.quality.item() == pytest.approx(0.5 ** (1 / 3))


@pytest.mark.parametrize(
    ("extent", "present", "expected"),
    [
        ((2, 2, 5, 5), True, 1.0),
        ((2, 2, 3, 5), True, 0.5),
        ((0, 0, 7, 7), True, 0.25),
        ((7, 7, 7, 7), True, 0.0),
        ((2, 2, 5, 5), False, 0.0),
    ],
)
def test_box_iou_counts_the_last_pixel(extent: tuple[int, ...], present: bool, expected: float) -> None:
    found = box_iou(torch.tensor(extent), torch.tensor(present), torch.tensor([2.0, 2.0, 6.0, 6.0]))
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 900), (900, 1)])
def test_the_smallest_and_thinnest_pictures_get_a_mask(sam: Sam, size: tuple[int, int]) -> None:
    made = SamTeacher(sam, "tiny").pseudo_mask(Image.new("RGB", size), [PixelBox.of(0, 0, 1, 1)])
    assert made.soft.shape == size[::-1]
    assert made.soft[0, 0] > 0
    assert 0 <= made.quality <= 1


def test_boxes_that_do_not_fit_are_refused(sam: Sam, picture: Image.Image) -> None:
    with pytest.raises(InvalidInput, match="at least one box"):
        SamTeacher(sam, "tiny").pseudo_mask(picture, [])
    with pytest.raises(InvalidInput, match="outside the picture of 256x192"):
        SamTeacher(sam, "tiny").pseudo_mask(picture, [PixelBox.of(0, 0, 257, 20)])


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Make the package's ViT-B the tiny one, and whatever lies in the returned file its published checkpoint."""
    monkeypatch.setitem(sam_model_registry, "vit_b", tiny_sam)
    path = tmp_path / "tiny.pth"

    def publish() -> Path:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(SAM_CHECKPOINTS, "sam-vit-b", SamCheckpoint("vit_b", "http://127.0.0.1:9/tiny.pth", digest))
        return path

    torch.save({name: tensor + 0.01 for name, tensor in tiny_sam().state_dict().items()}, path)
    return publish


def load(path: Path, device: str = "cpu") -> Sam:
    return load_sam("sam-vit-b", path, device, lambda *_: None)


def test_a_published_checkpoint_becomes_a_teacher(known: Callable[[], Path], picture: Image.Image) -> None:
    path = known()
    teacher = teacher_for(TrainConfig(teacher="sam-vit-b", outside_label=0.3), path)
    assert isinstance(teacher, SamTeacher)
    assert teacher.name == f"sam-vit-b-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}-0.1-0.3"
    loaded = load(path)
    assert not loaded.training
    assert torch.equal(loaded.mask_decoder.iou_token.weight, tiny_sam().mask_decoder.iou_token.weight + 0.01)
    expected = SamTeacher(loaded, "tiny", outside_label=0.3).pseudo_mask(picture, [DISC])
    assert np.array_equal(teacher.pseudo_mask(picture, [DISC]).soft, expected.soft)


def test_a_checkpoint_changed_after_publication_is_refused(known: Callable[[], Path]) -> None:
    path = known()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="is not the published tiny"):
        load(path)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "write", [torch.save, lambda bomb, path: path.write_bytes(pickle.dumps(bomb, protocol=2))], ids=["torch", "pickle"]
)
def test_code_in_a_checkpoint_never_runs(known: Callable[[], Path], tmp_path: Path, write: Callable[[Any, Path], Any]) -> None:
    write({"weights": Bomb(tmp_path / "ran")}, tmp_path / "tiny.pth")
    with pytest.raises(InvalidInput, match="does not hold the weights of sam-vit-b alone"):
        load(known())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "content",
    [{}, [1, 2], torch.zeros(3), tiny_sam(64).state_dict()],
    ids=["empty", "list", "tensor", "another architecture"],
)
def test_other_content_than_this_sam_is_refused(known: Callable[[], Path], tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "tiny.pth")
    with pytest.raises(InvalidInput, match="does not hold the weights of sam-vit-b alone"):
        load(known())


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\3\4 and nothing more"])
def test_files_that_torch_cannot_read_are_refused(known: Callable[[], Path], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tiny.pth").write_bytes(content)
    with pytest.raises(InvalidInput, match="does not hold the weights of sam-vit-b alone"):
        load(known())


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named_before_anything_is_read(tmp_path: Path, device: str) -> None:
    with pytest.raises(EnvironmentMissing, match=f"SAM cannot run on '{device}'.*use cpu or cuda:N"):
        load(tmp_path / "missing.pth", device)


def test_a_picture_of_any_size_is_embedded_once_for_all_its_boxes(sam: Sam) -> None:
    calls = counted(sam.image_encoder)
    boxes = [PixelBox.of(100 * number, 50, 100 * number + 90, 800) for number in range(BOXES_A_CALL + 2)]
    facts = facts_of(taught(SamTeacher(sam, "tiny"), Image.new("RGB", (2000, 1000), (90, 120, 30)), boxes))
    assert calls == [1]
    assert facts is not None and facts.picture_px == (2000, 1000)


def test_a_device_without_room_is_named(monkeypatch: pytest.MonkeyPatch, sam: Sam, picture: Image.Image) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sam.image_encoder, "forward", full)
    with pytest.raises(DeviceMemoryFull, match=r"tiny-0\.1-0\.1 finds no room on cpu: CUDA out of memory"):
        SamTeacher(sam, "tiny").pseudo_mask(picture, [DISC])
