"""Suggestions that are still to be tried."""

ONE, TWO, THREE = ({"lr": 0.1 + 0.2, "family": "f", "on": True, "depth": n} for n in range(3))


def test_those_of_a_trial_and_the_next_ones_are_left_as_they_were_found(digits):
    digits.suggestions.keep("digits", 5, [ONE, TWO, THREE])
    assert digits.suggestions.left("digits", 5) == [ONE, TWO, THREE]
    assert digits.suggestions.left("digits", 6) == [TWO, THREE]
    assert digits.suggestions.left("digits", 8) == []
    assert digits.suggestions.left("digits", 4) == [], "nobody knows what trial 4 was to try"


def test_new_ones_take_the_place_of_old_ones(digits):
    digits.suggestions.keep("digits", 5, [ONE, TWO, THREE])
    digits.suggestions.keep("digits", 5, [THREE])
    assert digits.suggestions.left("digits", 5) == [THREE]


def test_they_go_with_their_study(digits):
    digits.suggestions.keep("digits", 5, [ONE])
    digits.delete_study("digits")
    assert digits.suggestions.left("digits", 5) == []
