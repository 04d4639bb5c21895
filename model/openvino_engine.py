"""The default engine: OpenVINO on the CPU. Imports no torch."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.card import Card
from model.engines import memory_full, ran_out_of_memory
from schemas.errors import EnvironmentMissing


@functools.cache
def openvino_core() -> Any:
    """This process's one OpenVINO, which stays to the end.

    On CPUs with large registers its CPU plugin gives the loading thread another stack for signals, and frees that stack when
    the core goes, in whichever thread that is: after a hot swap the next SIGTERM would find none, and end in a segmentation
    fault.
    """
    import openvino

    return openvino.Core()


class OpenVinoEngine:
    """OpenVINO on the CPU: each picture of a batch runs alone, as many at a time as the CPU has streams for.

    One picture per stream beats one large batch on all cores (the activations of one picture stay in the caches of one
    core), and makes a picture's answer independent of its neighbours by construction. `exact` asks for float32 arithmetic
    where the CPU would choose bfloat16.
    """

    name = "openvino"

    def __init__(self, card: Card, directory: Path, *, threads: int = 0, exact: bool = True) -> None:
        if importlib.util.find_spec("openvino") is None:
            raise EnvironmentMissing("the openvino engine needs the package: pip install openvino")
        xml = card.verified_path(directory, "openvino_xml")
        weights = card.verified_path(directory, "openvino_bin")
        core = openvino_core()
        options: dict[str, Any] = {"PERFORMANCE_HINT": "THROUGHPUT"}
        if exact:
            options["INFERENCE_PRECISION_HINT"] = "f32"
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        network = core.read_model(xml, weights)
        side = card.student.input_size
        network.reshape([1, side, side, 3])
        self._compiled = core.compile_model(network, "CPU", options)
        self._requests: list[Any] = []

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One batch, as `Engine` says.

        Raises:
            DeviceMemoryFull: there is no memory for so many pictures at once.
        """
        try:
            return self._answers(pictures)
        except (MemoryError, RuntimeError) as error:
            self._requests = []  # some may be running still, and a running request takes no other picture
            if ran_out_of_memory(error):
                raise memory_full(len(pictures), "the CPU", error) from error
            raise

    def _answers(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        # A request for each picture, though only as many run at a time as there are streams: OpenVINO then goes from one
        # to the next by itself, where a callback into Python would have to wait for the interpreter lock in between.
        while len(self._requests) < len(pictures):
            self._requests.append(self._compiled.create_infer_request())
        running = self._requests[: len(pictures)]
        for i, request in enumerate(running):
            request.start_async({"pictures": pictures[i : i + 1]})
        for request in running:
            request.wait()
        answers = [(request.get_tensor("prob").data, request.get_tensor("score_logit").data) for request in running]
        return np.concatenate([prob for prob, _ in answers]), np.concatenate([score_logit for _, score_logit in answers])
