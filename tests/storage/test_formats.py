"""Number formats: what was chosen for a study, and what crashes for all."""

import pytest
from sqlalchemy import delete

from storage.tables import FORMAT_CRASHES
from trainers.execution import Execution

CPU, SIZE = "cpu: one of many cores", '{"backbone": "resnet20"}'
PLAIN, FAST = Execution().as_dict(), Execution(dtype="bfloat16", channels_last=True).as_dict()


@pytest.fixture
def formats(digits):
    yield digits.formats
    with digits._database.writing() as connection:
        connection.execute(delete(FORMAT_CRASHES))


def test_a_choice_comes_back_for_its_study_device_and_size_alone(digits, formats):
    digits.add_study("other", {}, "", {})
    formats.choose("digits", CPU, SIZE, FAST)
    formats.choose("digits", "cuda: H100", SIZE, PLAIN)
    formats.choose("other", CPU, SIZE, PLAIN)
    assert Execution(**formats.chosen("digits", CPU, SIZE)) == Execution(**FAST)
    assert formats.chosen("digits", "cuda: H100", SIZE) == PLAIN
    assert formats.chosen("other", CPU, SIZE) == PLAIN
    assert formats.chosen("digits", CPU, '{"backbone": "resnet8"}') is None


def test_crashes_come_back_in_their_order_for_every_study(formats):
    formats.add_crash(CPU, SIZE, FAST)
    formats.add_crash(CPU, SIZE, PLAIN)
    formats.add_crash("cuda: H100", SIZE, PLAIN)
    assert formats.crashed(CPU, SIZE) == [FAST, PLAIN]
    assert formats.crashed(CPU, "another size") == []
