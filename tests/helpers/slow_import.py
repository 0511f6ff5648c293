"""A module that takes longer to import than the test of `call` allows for reading."""

import time

time.sleep(5)


def echo(data: bytes) -> bytes:
    return data
