"""The session of somebody who signed in, over an hour and more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard.session import Session
from monitoring.control import ActionFailed, SignInNeeded
from tests.fakes.operating import Person

T0 = datetime(2026, 11, 27, 9, tzinfo=UTC)


def minutes(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


def ann(number: int, ends: float, *, renewal: str | None = None, writes: bool = True) -> Person:
    return Person(
        "ann", f"t{number}", "operator", writes, minutes(ends), f"r{number}" if renewal is None else renewal
    )


class Project:
    """Gives out the next token, or does not."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers: list[Person | ActionFailed] = []

    def renew(self, renewal: str) -> Person:
        self.asked.append(renewal)
        answer = self.answers.pop(0)
        if isinstance(answer, ActionFailed):
            raise answer
        return answer


def test_a_token_is_renewed_at_three_quarters_of_its_life_and_pages_need_not_know() -> None:
    project, session = Project(), Session(ann(1, 60), T0)
    project.answers = [ann(2, 105), ann(3, 165)]
    for moment in (0, 44.9):
        session.tend(project.renew, minutes(moment))
    assert (session.token, project.asked) == ("t1", [])
    session.tend(project.renew, minutes(45))
    assert session.token == "t2"
    session.tend(project.renew, minutes(89))
    assert project.asked == ["r1"]
    session.tend(project.renew, minutes(90))
    assert project.asked == ["r1", "r2"]
    assert (session.name, session.role, session.writes) == ("ann", "operator", True)
    assert not session.ended(minutes(164))
    assert session.note(minutes(164)) == ""


def test_a_computer_that_slept_past_the_end_has_its_session_renewed() -> None:
    project, session = Project(), Session(ann(1, 60), T0)
    project.answers = [ann(2, 360)]
    assert session.ended(minutes(300))
    session.tend(project.renew, minutes(300))
    assert not session.ended(minutes(300))


def test_a_project_that_does_not_answer_is_asked_again_half_a_minute_later() -> None:
    project, session = Project(), Session(ann(1, 60), T0)
    project.answers = [ActionFailed("no answer"), ActionFailed("no answer"), ann(2, 110)]
    for moment in (50, 50.4, 56):
        session.tend(project.renew, minutes(moment))
    assert project.asked == ["r1", "r1"]
    assert session.note(minutes(54)) == ""
    assert session.note(minutes(56)) == "The session of ann ends in 4 min: no answer."
    session.tend(project.renew, minutes(57))
    assert session.token == "t2"
    assert session.note(minutes(57)) == ""


def test_a_project_that_refuses_is_not_asked_again_and_the_end_is_told() -> None:
    project, session = Project(), Session(ann(1, 60), T0)
    project.answers = [SignInNeeded("already used")]
    for moment in (45, 46, 59, 61):
        session.tend(project.renew, minutes(moment))
    assert project.asked == ["r1"]
    assert session.ended(minutes(60))
    said = session.note(minutes(61))
    assert "ended at" in said
    assert "already used. Sign in again to act; what is entered here stays." in said
    assert session.writes, "the switches stay, with what is entered in them"


def test_a_token_that_cannot_be_renewed_says_when_it_ends() -> None:
    session = Session(ann(1, 60, renewal=""), T0)
    session.tend(Project().renew, minutes(59))
    assert session.note(minutes(54)) == ""
    assert session.note(minutes(58)) == "The session of ann ends in 2 min."
    assert session.note(minutes(60)).startswith("The session of ann ended at ")


def test_who_has_no_end_is_never_asked_for_anything() -> None:
    session = Session(Person("ann", "t", "viewer", writes=False), T0)
    session.tend(Project().renew, minutes(1e6))
    assert not session.ended(minutes(1e6))
    assert session.note(minutes(1e6)) == ""


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_what_somebody_may_do_is_what_the_newest_token_says(role: str) -> None:
    project, session = Project(), Session(ann(1, 60), T0)
    project.answers = [Person("ann", "t2", role, role == "operator", minutes(120), "r2")]
    session.tend(project.renew, minutes(50))
    assert (session.role, session.writes) == (role, role == "operator")
