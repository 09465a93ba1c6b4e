import os

import pytest


@pytest.mark.parametrize("i", range(20))
def test_each_has_a_database_of_its_own(database, i):
    assert database.dbsize() == 0
    database.set("i", i)
    assert database.get("i") == str(i).encode()


def test_a_crash_leaves_the_server_alone(database):
    database.set("never", "flushed")
    if os.environ.get("EXAMPLE_CRASH"):
        os.abort()


def test_who_stops_the_server_is_told_so_and_nobody_else_is(database):
    if os.environ.get("EXAMPLE_CRASH"):
        database.shutdown(nosave=True)
        database.ping()
