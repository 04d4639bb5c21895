import pytest

from scheduler.bootstrap import Interval
from scheduler.checks import Check
from scheduler.groups import Group
from scheduler.verdict_words import change, gain, group, loss, number, pictures_to_tell, signed, summary
from schemas.learning_settings import PromotionSettings

SETTINGS = PromotionSettings()


@pytest.mark.parametrize(
    ("value", "plain", "with_sign"),
    [
        (0.2414, ".241", "+.241"),
        (-0.004, "-.004", "-.004"),
        (1.5, "1.500", "+1.500"),
        (0.0, ".000", "+.000"),
        (10.0, "10.000", "+10.000"),
    ],
)
def test_numbers(value: float, plain: str, with_sign: str) -> None:
    assert (number(value), signed(value)) == (plain, with_sign)


def test_what_is_too_small_to_show_has_no_minus() -> None:
    assert (number(-0.0001), signed(-0.0001)) == (".000", "+.000")
    assert (number(None), signed(None)) == ("none", "none")


def test_the_sentence_of_a_gain_that_is_not_sure() -> None:
    said = gain(0.241, 0.248, 0.007, Interval(-0.004, 0.018), 212, SETTINGS, sure=False)
    assert said == (
        "on 212 held-out pictures pixel F1 went from .241 to .248 (+.007, 95 % interval -.004 to +.018): "
        "not sure enough to be better; some 530 such pictures would tell"
    )


def test_a_sure_gain_may_still_be_too_small() -> None:
    assert gain(0.2, 0.201, 0.001, Interval(0.0005, 0.0015), 900, SETTINGS, sure=True).endswith(
        "less than the least gain of .002"
    )
    assert gain(0.2, 0.22, 0.02, Interval(0.01, 0.03), 900, SETTINGS, sure=True).endswith(": better")
    assert "interval unknown" in change("pixel F1", 0.2, 0.2, 0.0, None, 3, 0.9)


def test_what_is_surely_worse_is_called_so() -> None:
    assert gain(0.3, 0.2, -0.1, Interval(-0.12, -0.08), 90, SETTINGS, sure=False).endswith(": surely worse")
    fallen, risen = Interval(-0.07, 0.01), Interval(-0.01, 0.07)
    assert loss(-0.05, fallen, 65, 1, 0.02) == loss(0.05, risen, 65, -1, 0.02) == "worse by more than .020"


def test_what_is_not_sure_says_how_many_pictures_would_tell() -> None:
    lower, higher = Interval(-0.03, 0.01), Interval(-0.01, 0.03)
    said = "not sure enough to be no worse than by .020; some 260 such pictures would tell"
    assert loss(-0.01, lower, 65, 1, 0.02) == loss(0.01, higher, 65, -1, 0.02) == said
    assert loss(None, None, 1, 1, 0.02) == "not sure enough to be no worse than by .020"


@pytest.mark.parametrize(
    ("difference", "low", "wanted"),
    [(0.01, -0.01, 400), (0.02, 0.0, 100), (0.01, -0.0001, 110), (0.0, -0.01, None), (-0.01, -0.02, None), (0.001, -0.05, None)],
)
def test_an_interval_shrinks_with_the_root_of_the_number_of_pictures(difference: float, low: float, wanted: int | None) -> None:
    assert pictures_to_tell(difference, Interval(low, 0.1), 100, 1, 0.0) == wanted


def test_the_worst_group_is_named_with_its_margin() -> None:
    said = group("pixel F1", Group("source camp", 31, 0.24, 0.30, -0.06), 0.05)
    assert said == (
        "pixel F1 of source camp (31 pictures) went from .300 to .240 (-.060), the worst of all sources and annotators; "
        "the margin is .050"
    )


def test_the_summary_is_one_paragraph() -> None:
    good, bad = (Check(name="f1", passed=passed, sentence="on 9 pictures it rose") for passed in (True, False))
    other = Check(name="size", passed=False, sentence="it is too large")
    assert summary(True, [good]) == "Promoted: on 9 pictures it rose. All 1 checks passed."
    assert summary(False, [bad, other]) == "Rejected: on 9 pictures it rose. It is too large."
    assert summary(False, [bad, *[other] * 4]).endswith("It is too large. It is too large. 2 more checks failed.")
