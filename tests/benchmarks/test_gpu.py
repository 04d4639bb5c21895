"""The GPU benchmark: all of it on the CPU, tiny, and a plain sentence where no GPU is."""

import json

import numpy as np
import pytest
import torch

from benchmarks.gpu import EXIT_NO_DEVICE, Answers, Drift, Report, Round, drift_between, main, show
from workers.batch_size import Trial

REPORT = Report(
    device="cuda:0",
    model="student-2",
    cores=16,
    pictures=2000,
    max_batch=32,
    lanes=2,
    batches={16: Trial(900.0, 0.05), 32: Trial(1000.0, 0.08), 64: Trial(1010.0, 0.16)},
    drift=Drift(64, 0.0312, 0.00042, 0.00012, 1),
    rounds=[Round(1000.0, 920.0, 0.8), Round(1000.0, 950.0, 0.85), Round(1000.0, 910.0, 0.75)],
)


def test_without_the_gpu_it_says_so_and_ends_with_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--device", "cuda:99", "--count", "1"])
    shown = capsys.readouterr()
    assert (left.value.code, shown.out) == (EXIT_NO_DEVICE, "")
    assert "cuda:99 was asked for, but torch sees " in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.slow
def test_everything_runs_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    arguments = "--device cpu --count 6 --megapixels 0.1 --rounds 1 --seconds 0.01 --largest 2 --drift-pictures 3 --json"
    main(arguments.split())
    torch.set_num_threads(threads)
    report = json.loads(capsys.readouterr().out)
    assert (report["device"], report["pictures"], report["lanes"]) == ("cpu", 6, 1)
    assert set(report["batches"]) == {"1", "2"}
    assert report["max_batch"] in (1, 2)
    assert all(trial["rate"] > 0 for trial in report["batches"].values())
    (measured,) = report["rounds"]
    assert report["decode_share"] == pytest.approx(measured["audit"] / measured["decode"])
    assert 0 < measured["busy"] <= 1
    drift = report["drift"]
    assert drift["pictures"] == 3
    assert 0 < drift["mean"] <= drift["largest"] <= 1
    assert 0 <= drift["crossing_share"] <= 1
    assert 0 <= drift["verdict_flips"] <= 3


def test_the_table_says_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    show(REPORT)
    shown = capsys.readouterr().out
    assert "student-2 on cuda:0, 16 cores, 2000 pictures" in shown
    assert "   32       1000.0           8.0%   <- max_batch, 2 under way at once" in shown
    assert "bf16 against float32 on 64 pictures: probabilities differ by 0.00042 on average and" in shown
    assert "0.0312 at most; 0.0120% of pixels cross 0.5; 1 verdicts change" in shown
    assert "audit / decode     median       0.92   (      0.91 to       0.95)   (aim: 0.9)" in shown
    assert "device busy        median      80.0%" in shown


def test_drift_counts_pixels_and_verdicts() -> None:
    """One pixel of four is on the other side, one picture of two gets another verdict."""
    prob = np.array([[[0.4, 0.2], [0.6, 0.9]]] * 2, np.float32)
    other = prob.copy()
    other[:, 0, 0] = 0.6
    drift = drift_between(Answers(prob, ["flag", "pass"]), Answers(other, ["flag", "review"]))
    assert (drift.pictures, drift.crossing_share, drift.verdict_flips) == (2, 0.25, 1)
    assert (drift.largest, drift.mean) == (pytest.approx(0.2), pytest.approx(0.05))
