"""Forbids sockets, as pytest-socket does."""

import socket


class _Forbidden(socket.socket):
    def __new__(cls, *arguments, **more):
        raise RuntimeError("A test tried to use socket.socket.")


def pytest_configure():
    socket.socket = _Forbidden
