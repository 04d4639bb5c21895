from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.config import StudentConfig
from model.student import ServingStudent, Student


def parameters(student: Student) -> int:
    return sum(parameter.numel() for parameter in student.parameters())


@pytest.mark.slow
def test_the_papers_student_has_the_papers_size() -> None:
    student = Student(StudentConfig()).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        student(torch.zeros(1, 3, 224, 224))
    assert 5.2e6 <= parameters(student) <= 5.5e6
    assert counter.get_total_flops() / 2 == pytest.approx(1.4e9, rel=0.05)


@pytest.mark.parametrize("size", [64, 96])
def test_the_outputs_have_their_shapes(tiny: StudentConfig, size: int) -> None:
    student = Student(replace(tiny, input_size=size)).eval()
    with torch.inference_mode():
        output = student(torch.zeros(2, 3, size, size))
    assert output.mask_logits.shape == (2, 1, size // 4, size // 4)
    assert output.score_logit.shape == (2,)


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": False},
        {"gates": False},
        {"memory": False, "gates": False},
        {"slots": 9},
        {"correlation": 8},
        {"high_pass": "srm"},
        {"high_pass": "bayar"},
    ],
)
def test_ablations_change_the_network_and_still_run(tiny: StudentConfig, changes: dict[str, object]) -> None:
    ablated = Student(replace(tiny, **changes)).eval()  # type: ignore[arg-type]
    assert parameters(ablated) != parameters(Student(tiny))
    with torch.inference_mode():
        assert torch.isfinite(ablated(torch.randn(1, 3, 64, 64)).mask_logits).all()


def test_every_weight_takes_part(tiny: StudentConfig) -> None:
    student = Student(tiny).train()
    output = student(torch.randn(2, 3, 64, 64))
    (output.mask_logits.square().sum() + output.score_logit.square().sum()).backward()
    assert [name for name, parameter in student.named_parameters() if parameter.grad is None] == []


def test_a_fixed_balance_stays_at_one_half(tiny: StudentConfig) -> None:
    student = Student(replace(tiny, balance="fixed"))
    assert student.fusion.balance is not None
    assert not student.fusion.balance.requires_grad
    assert float(torch.sigmoid(student.fusion.balance)) == 0.5


def test_matches_are_told_where_they_are_looked_for(tiny: StudentConfig) -> None:
    picture = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert Student(tiny).eval()(picture).match_logits is None
        assert Student(replace(tiny, correlation=8)).eval()(picture).match_logits.shape == (1, 64, 64)


def test_the_fitted_numbers_move_the_mask_with_the_score(tiny: StudentConfig) -> None:
    student, picture = Student(tiny).eval(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before = student(picture)
        student.mask_shift.fill_(0.5)
        student.mask_coupling.fill_(2.0)
        after = student(picture)
    assert torch.equal(before.score_logit, after.score_logit)
    expected = before.mask_logits + 0.5 + 2.0 * before.score_logit.view(2, 1, 1, 1)
    torch.testing.assert_close(after.mask_logits, expected)


def test_a_new_student_sees_little(tiny: StudentConfig) -> None:
    serving = ServingStudent(Student(tiny)).eval()
    with torch.inference_mode():
        prob, _ = serving(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    assert prob.mean() < 0.3


def test_serving_normalises_and_squashes(tiny: StudentConfig) -> None:
    config = replace(tiny, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2))
    student = Student(config).eval()
    pictures = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    by_hand = (pictures.permute(0, 3, 1, 2) / 255.0 - torch.tensor(config.mean).view(1, 3, 1, 1)) / torch.tensor(config.std).view(
        1, 3, 1, 1
    )
    with torch.inference_mode():
        prob, score_logit = ServingStudent(student).eval()(pictures)
        expected = student(by_hand)
    assert prob.shape == (3, 16, 16)
    assert prob.dtype == score_logit.dtype == torch.float32
    torch.testing.assert_close(prob, expected.mask_logits.sigmoid().squeeze(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(score_logit, expected.score_logit, atol=1e-5, rtol=1e-4)


def test_a_picture_gets_the_same_answer_alone_and_in_company(tiny: StudentConfig) -> None:
    serving = ServingStudent(Student(tiny)).eval()
    pictures = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        together, alone = serving(pictures)[0][2], serving(pictures[2:3])[0][0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
