"""Servers of vLLM without a start each: imported once, then a fork per line of stdin, which is a server's arguments.

Prints a fork's process id per line. It leads a group with the engine's own process in it, which outlives it else; on
CPUs vLLM spawns that one, which imports everything again, some 10 s of CPU for each server: here it is a fork too.
Runs under vLLM's own Python, and knows nothing of ropewalk.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sys

from vllm.entrypoints.launchers.api_server import entry

MODELS = ("llama", "gemma3", "phi3", "mistral")


def forked():
    """What vLLM takes for its processes."""
    return multiprocessing.get_context("fork")


def serve(arguments):
    """A server, in this process."""
    os.setsid()
    for name in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    sys.argv = ["vllm", *arguments]
    os.dup2(2, 1)  # what a server says is no process id
    entry.main()
    os._exit(0)


for name in ("v1.worker.cpu_worker", *(f"model_executor.models.{each}" for each in MODELS)):
    importlib.import_module(f"vllm.{name}")
for module in list(sys.modules.values()):
    if "get_mp_context" in getattr(module, "__dict__", {}):
        module.get_mp_context = forked
print("ready", flush=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
forks = []
try:
    for line in sys.stdin:
        forks.append(os.fork())
        if forks[-1] == 0:
            serve(json.loads(line))
        print(forks[-1], flush=True)
finally:  # whoever asked is gone
    for fork in filter(None, forks):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(fork, signal.SIGKILL)
