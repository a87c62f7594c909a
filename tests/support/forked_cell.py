"""The command of a sweep's cell: has it forked by ``fork_commands.py``, and ends with its exit code."""

import json
import os
import socket
import sys

from fork_commands import SOCKET

if __name__ == "__main__":
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(SOCKET)
    socket.send_fds(connection, [json.dumps([os.getcwd(), *sys.argv[1:]]).encode()], [1])
    sys.exit(int(connection.recv(8) or 137))
