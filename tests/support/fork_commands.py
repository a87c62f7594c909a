"""A process that has imported everything once, and forks one command after another: a start costs a second or two.

A line of its input is a json list: the file for the command's output, then the command. It answers with the number of
the process, and with its exit status when that has ended.
"""

import json
import os
import sys
import traceback
from importlib import import_module

WANTED = ("lightning_fewshot.cli.run", "lightning_fewshot.cli.sweeping.study", "torchmetrics", "cv2", "rich.table")


def run(log, args):
    """Become a process of its own and run one command; never return."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
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
    os._exit(code)


def main(modules):
    """Import, then serve until the input ends."""
    for module in (*WANTED, *modules):
        import_module(module)
    for line in sys.stdin:
        log, *args = json.loads(line)
        if (pid := os.fork()) == 0:
            run(log, args)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
