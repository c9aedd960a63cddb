"""Neither an exchange of bundles nor a polite stop costs a client its answer."""

from faults_by_name import Workshop, make


def test_a_swap_under_load_drops_no_request(workshop: Workshop) -> None:
    outcome = make("swap-under-load", 6, workshop)
    assert outcome.is_clean, outcome
    assert outcome.rounds >= 6
    assert outcome.numbers["slates"] > 20


def test_sigterm_under_load(workshop: Workshop) -> None:
    outcome = make("stopping", 1, workshop)
    assert outcome.is_clean, outcome
    assert outcome.acknowledged > 50


def test_a_damaged_bundle_is_not_activated_and_not_served(workshop: Workshop) -> None:
    outcome = make("damaged-bundle", 1, workshop)
    assert outcome.is_clean, outcome
