"""SAM as teacher: the Segment Anything Model (Kirillov et al. 2023) through Meta's package, prompted with boxes."""

import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from segment_anything import SamPredictor, sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.amg import batched_mask_to_box, calculate_stability_score
from torch import Tensor

from model.sam_checkpoints import SAM_CHECKPOINTS, Report, opened_checkpoint
from model.teacher import PseudoMask, check_boxes, covered
from schemas.errors import DeviceMemoryFull, EnvironmentMissing, InvalidInput
from schemas.geometry import PixelBox

BOXES_A_CALL = 8  # of the mask decoder: about 300 MB of logits at SAM's 1024 pixels
STABILITY_OFFSET = 1.0  # of the logits, as in SAM's own automatic mask generator


class Judged(NamedTuple):
    """The candidate taken for each of B boxes: logits_net [B, h, w], and its quality [B], 0..1."""

    logits_net: Tensor
    quality: Tensor


class SamTeacher:
    """SAM with all boxes of a picture as prompts on one image embedding.

    The frame of the work is *net*: the picture scaled so that its long side is SAM's (1024 pixels). For every box SAM proposes
    three masks (whole, part, part of the part); the one with the largest predicted IoU * agreement is taken, where agreement
    is the IoU of the candidate's bounding box with the prompt. The belief is the sigmoid of its logits inside its box, 0
    outside: the box is what a person said, and nothing beside it was manipulated. Boxes are combined by their maximum. Where
    less than `least_fill` of a box is covered, the whole box is taken at quality 0.

    A mask's quality is the geometric mean of agreement, predicted IoU (clipped to 0..1) and SAM's stability score: IoU of the
    masks cut at logits of +1 and -1. A picture's quality is the mean over its boxes.

    Args:
        sam: on its device, in eval mode.
        name: of the checkpoint, for the run's record.
        outside_label: belief, 0..1, inside a box where SAM saw no object.
        least_fill: an object filling less of its box than this counts as not found.
    """

    def __init__(self, sam: Sam, name: str, outside_label: float = 0.1, least_fill: float = 0.1) -> None:
        self.name = f"{name}-{least_fill:g}-{outside_label:g}"
        self._predictor = SamPredictor(sam)
        self._outside_label = outside_label
        self._least_fill = least_fill

    @torch.inference_mode()
    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        """See `BoxTeacher`.

        Raises:
            DeviceMemoryFull: something else holds the GPU's memory.
        """
        check_boxes(image, boxes)
        try:
            return self._asked(image, boxes)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryFull(f"{self.name} finds no room on {self._predictor.device}: {error}") from error

    def _asked(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        rgb = np.asarray(image.convert("RGB"), dtype=np.uint8)
        transform = self._predictor.transform
        if min(transform.get_preprocess_shape(*rgb.shape[:2], transform.target_length)) < 1:
            # Thinner than 1 to 2048: nothing is left of it in SAM's frame.
            return PseudoMask(
                np.where(covered((box.as_tuple() for box in boxes), rgb.shape[:2]), np.uint8(255), np.uint8(0)), 0.0
            )
        belief, qualities = np.zeros(rgb.shape[:2], dtype=np.float32), []
        for box, (logits_net, quality) in zip(boxes, self._judged(rgb, boxes), strict=True):
            logits = cv2.resize(logits_net, image.size, interpolation=cv2.INTER_LINEAR)[box.y0 : box.y1, box.x0 : box.x1]
            found = (logits > 0).mean() >= self._least_fill
            prob = 1.0 / (1.0 + np.exp(-logits.clip(-30, 30))) if found else 1.0
            part = belief[box.y0 : box.y1, box.x0 : box.x1]
            np.maximum(part, np.maximum(prob, self._outside_label), out=part)
            qualities.append(quality if found else 0.0)
        return PseudoMask(np.rint(255 * belief).astype(np.uint8), float(np.mean(qualities)))

    def _judged(self, rgb: NDArray[np.uint8], boxes: Sequence[PixelBox]) -> Iterator[tuple[NDArray[np.float32], float]]:
        """Logits [h, w] of the mask taken for each box, and its quality.

        The picture is set in net pixels as its own size, so that candidates come back in that frame however large it is.
        """
        predictor = self._predictor
        pixels = torch.as_tensor(predictor.transform.apply_image(rgb), device=predictor.device).permute(2, 0, 1)[None]
        predictor.set_torch_image(pixels.contiguous(), tuple(pixels.shape[-2:]))
        boxes_net = predictor.transform.apply_boxes(np.array([box.as_tuple() for box in boxes]), rgb.shape[:2])
        prompts = torch.as_tensor(boxes_net, dtype=torch.float32, device=predictor.device)
        for chunk in torch.split(prompts, BOXES_A_CALL):
            logits_net, predicted_iou, _ = predictor.predict_torch(None, None, boxes=chunk, return_logits=True)
            judged = judge(logits_net, predicted_iou, chunk)
            yield from zip(judged.logits_net.float().cpu().numpy(), judged.quality.tolist(), strict=True)
        predictor.reset_image()


def judge(logits_net: Tensor, predicted_iou: Tensor, boxes_net: Tensor) -> Judged:
    """Choose among SAM's candidates for each box.

    Args:
        logits_net: [B, C, h, w].
        predicted_iou: [B, C], SAM's own estimate.
        boxes_net: [B, 4] as x0, y0, x1, y1.
    """
    masks_net = logits_net > 0
    agreement = box_iou(batched_mask_to_box(masks_net), masks_net.any((-2, -1)), boxes_net[:, None])
    trust = predicted_iou.clamp(0, 1)
    chosen = (trust * agreement).argmax(1)
    each = torch.arange(len(chosen), device=chosen.device)
    # 0/0 where not even the lower cut finds a pixel: nothing is stable about an empty mask.
    stability = calculate_stability_score(logits_net[each, chosen], 0.0, STABILITY_OFFSET).nan_to_num(0.0)
    quality = (agreement[each, chosen] * trust[each, chosen] * stability) ** (1 / 3)
    return Judged(logits_net[each, chosen], quality)


def box_iou(extents: Tensor, present: Tensor, boxes: Tensor) -> Tensor:
    """IoU of masks' bounding boxes with other boxes, shape [...].

    Args:
        extents: [..., 4], first and last column and row as x0, y0, x1, y1, ends inclusive.
        present: [...] bool, False for an empty mask, whose IoU is 0.
        boxes: [..., 4], ends exclusive.
    """
    extents = extents + torch.tensor([0, 0, 1, 1], device=extents.device)
    overlap = (torch.minimum(extents[..., 2:], boxes[..., 2:]) - torch.maximum(extents[..., :2], boxes[..., :2])).clamp(min=0)
    areas = (extents[..., 2:] - extents[..., :2]).prod(-1) + (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return overlap.prod(-1) / (areas - overlap.prod(-1)) * present


def load_sam(kind: str, checkpoint: Path | None, device: str, report: Report) -> Sam:
    """A published SAM in eval mode.

    Args:
        kind: "sam-vit-b", "sam-vit-l" or "sam-vit-h".
        checkpoint: the published file; None takes it from the cache folder, downloading it first.
        device: "cpu" or "cuda:N".
        report: progress of a download.

    Raises:
        InvalidInput: the file is missing, damaged, not the published one, or does not hold this model's weights.
        EnvironmentMissing: no such device, or the download failed.
    """
    try:
        torch.empty(0, device=device)  # before gigabytes are fetched
    except (RuntimeError, AssertionError) as error:
        raise EnvironmentMissing(f"SAM cannot run on '{device}': {error}; use cpu or cuda:N") from error
    with opened_checkpoint(kind, checkpoint, report) as file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            sam = sam_model_registry[SAM_CHECKPOINTS[kind].model_type]()
            sam.load_state_dict(state)
        except (pickle.UnpicklingError, RuntimeError, EOFError, TypeError) as error:
            raise InvalidInput(f"{file.name} does not hold the weights of {kind} alone: {error}") from error
    return sam.to(device).eval()


def load_sam_teacher(kind: str, checkpoint: Path | None, device: str, outside_label: float, report: Report) -> SamTeacher:
    """The teacher named in a config; its name carries the first hex digits of the checkpoint's sha256. Raises as `load_sam`."""
    name = f"{kind}-{SAM_CHECKPOINTS[kind].sha256[:8]}"
    return SamTeacher(load_sam(kind, checkpoint, device, report), name, outside_label)
