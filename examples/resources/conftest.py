"""One Redis server for the whole run, a database of it for each test.

    pytest --holdfast --hf-slots=4 -v examples/resources

needs Debian's redis-server and PyPI's redis. With plain pytest it is an ordinary session fixture.
"""

import shutil
import subprocess

import pytest

import holdfast

# Databases cost Redis a few hundred bytes each.
DATABASES = 10_000


def connect(address, retries=0, **options):
    """Without the client's usual ten seconds of patience: the server of a test is there, or it is not."""
    import redis
    from redis.backoff import ConstantBackoff
    from redis.retry import Retry

    return redis.Redis(unix_socket_path=address, socket_timeout=5, retry=Retry(ConstantBackoff(0.02), retries), **options)


def answers(address):
    """Asked between two tests; an exception means that the server has to be started again."""
    connect(address).ping()


@holdfast.resource(scope="run", check=answers)
def redis_server(tmp_path_factory):
    """The path of its socket. Started once, in a process of its own; stopped once, whatever happens to tests, engine or controller."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    pytest.importorskip("redis")
    place = tmp_path_factory.mktemp("redis")
    address = str(place / "redis.sock")
    command = [program, "--port", "0", "--unixsocket", address, "--databases", str(DATABASES), "--save", "", "--dir", str(place)]
    with open(place / "log", "w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    _wait_until_it_answers(server, address, place / "log")
    yield address
    server.terminate()
    server.wait(timeout=20)


def _wait_until_it_answers(server, address, log):
    import redis

    try:
        connect(address, retries=500).ping()  # 10 s
    except redis.ConnectionError:
        server.kill()
        server.wait()
        pytest.fail(f"redis-server does not answer:\n{log.read_text()}", pytrace=False)


@pytest.fixture
def database(redis_server):
    """A client of an empty database that no other test has."""
    number = connect(redis_server).incr("databases given out")
    with connect(redis_server, db=number) as client:
        yield client
        client.flushdb()
