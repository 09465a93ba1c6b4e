"""A database that takes a while to fill, made once for all tests; each test changes a copy of its own. (So under
plain pytest, where they all have the same one, some of these tests fail.)

    pytest --holdfast --hf-slots=4 -v examples/shared

The last lines say how long the setup took, and for how many tests. With --hf-dist=isoscope the class of the second half waits until
the module's functions are done.
"""

import os
import sqlite3
import time

import pytest


@pytest.fixture(scope="module")
def orders():
    """In memory: a copy goes along with every fork."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, price INTEGER)")
    database.executemany("INSERT INTO orders VALUES (?, ?)", ((i, i % 100) for i in range(200_000)))
    time.sleep(0.5)  # It would come from somewhere.
    yield database
    database.close()


@pytest.mark.parametrize("number", range(8))
def test_each_test_deletes_from_its_own(orders, number):
    orders.execute("DELETE FROM orders WHERE number <> ?", (number,))
    assert orders.execute("SELECT COUNT(*) FROM orders").fetchone() == (1,)


def test_a_crash_costs_nobody_the_database(orders):
    if os.environ.get("EXAMPLE_CRASH"):
        os.abort()
    assert orders.execute("SELECT COUNT(*) FROM orders").fetchone() == (200_000,)


class TestPrices:
    @classmethod
    def setup_class(cls):
        cls.discount = 10

    def test_lower(self, orders):
        orders.execute("UPDATE orders SET price = price - ?", (self.discount,))
        assert orders.execute("SELECT MIN(price) FROM orders").fetchone() == (-10,)

    def test_as_they_were(self, orders):
        assert orders.execute("SELECT MIN(price) FROM orders").fetchone() == (0,)
