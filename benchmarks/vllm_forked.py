"""Servers of vLLM without a start each: imported once, then a fork per line of stdin, which is a server's arguments.

Prints a fork's process id per line; it leads a group with the engine's own process in it, which outlives its parent
else. Runs under vLLM's own Python, and knows nothing of ropewalk.
"""

import contextlib
import json
import os
import signal
import sys

from vllm.entrypoints.launchers.api_server import entry

print("ready", flush=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
forks = []
for line in sys.stdin:
    fork = os.fork()
    if fork == 0:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        sys.argv = ["vllm", *json.loads(line)]
        os.dup2(2, 1)  # what a server says is no process id
        entry.main()
        os._exit(0)
    forks.append(fork)
    print(fork, flush=True)
for fork in forks:  # whoever asked is gone
    with contextlib.suppress(ProcessLookupError):
        os.killpg(fork, signal.SIGKILL)
