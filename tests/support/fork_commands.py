"""A process that has imported everything once, and forks one command after another: a start costs a second or two.

A line of its input is a json list: "fork", the file for the command's output, and the command. It answers with the
number of the process, and with its exit status when that has ended. With "here" it runs the command itself, and has
then imported, drawn and cached what the ones to come need. A sweep's cells are forked too, for ``forked_cell.py``.
"""

import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from importlib import import_module

SOCKET = "cells.sock"  # in the folder where the process runs
WANTED = ("lightning_fewshot.cli.run", "lightning_fewshot.cli.sweeping.study", "torchmetrics", "cv2", "rich.table")


def run(output, args):
    """Run one command with its output in a descriptor; return its exit code."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 1
    try:
        import_module("lightning_fewshot.cli").main(args)
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def run_command(log, args):
    """Become a process of its own and run a command; never return."""
    os.setsid()
    os._exit(run(opened(log), args))


def run_here(log, args):
    """Run a command in this process; return its exit code."""
    answers = os.dup(1)
    code = run(opened(log), args)
    os.dup2(answers, 1)
    return code


def opened(log):
    """Return a descriptor of the file for a command's output."""
    return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def run_cell(connection):
    """Run a cell for ``forked_cell.py`` and end with it, as one that the sweep had started; never return."""
    message, descriptors, *_ = socket.recv_fds(connection, 1 << 16, 1)
    folder, *args = json.loads(message)
    os.chdir(folder)
    threading.Thread(target=_end_with, args=[connection], daemon=True).start()
    code = run(descriptors[0], args)
    connection.send(str(code).encode())
    os._exit(code)


def _end_with(connection):
    connection.recv(1)  # nothing comes but the end
    os.kill(os.getpid(), signal.SIGKILL)


def wait(pid, listener):
    """Wait for a command, and fork the cells that it asks for; return its exit code."""
    ended = os.pidfd_open(pid)
    while True:
        ready, _, _ = select.select([ended, listener], [], [])
        if listener in ready:
            connection, _ = listener.accept()
            if os.fork() == 0:
                run_cell(connection)
            connection.close()
        elif ended in ready:
            os.close(ended)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(modules):
    """Import, then serve until the input ends."""
    for module in (*WANTED, *modules):
        import_module(module)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(SOCKET)
    listener.listen()
    for line in sys.stdin:
        where, log, *args = json.loads(line)
        if where == "here":
            print(run_here(log, args), flush=True)
            continue
        if (pid := os.fork()) == 0:
            run_command(log, args)
        print(pid, flush=True)
        print(wait(pid, listener), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
