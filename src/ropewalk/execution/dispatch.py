"""Chunks over workers that may be slow, hang or die: who gets what next, and what is done again.

The same for processes, Ray and the simulation of benchmarks/fleet.py: they differ in how a worker is started and how
it is talked to, which is a `Transport`.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ropewalk.errors import ModelError
from ropewalk.execution.executor import Closed, Done, Event, Joined, Lost, Portion
from ropewalk.execution.lease import Opening
from ropewalk.scoring import Failure

_LOG = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Chunks that a worker holds while there are plenty: it need not wait for the next one."""
DEATHS = 2
"""Workers that a chunk may kill before it is a failure, and starts of a slot that may fail in a row while none has ever
been ready."""
STARTS = 10
"""Starts of a slot that may fail in a row once some worker was ready: then starting works, and something else kills."""
SLOWER = 10.0
"""Times the usual pace that a worker may take over a chunk, and times the patience that it may take to load a model,
before it counts as hanging; twice as long after each start of its slot that failed, as a busy machine may need it."""


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """What a worker answered, or the error that it raised."""

    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Died:
    """A worker that will answer no more."""

    reason: str


class Transport(Protocol):
    """Starts workers and carries calls; answers of one worker come in the order of its calls."""

    @property
    def slots(self) -> int:
        """How many workers there may be at a time."""
        ...

    def start(self, slot: int) -> int:
        """Begin to start a worker; returns a number that no other has. Its first answer is its `Opening`."""
        ...

    def name(self, worker: int) -> str: ...

    def send(self, worker: int, method: str, *args: Any) -> None:
        """Call a method of its `Lease`; never waits."""
        ...

    def wait(self, timeout_s: float) -> list[tuple[int, Reply | Died]]:
        """What came in, after at most so many seconds."""
        ...

    def kill(self, worker: int) -> None: ...

    def clock(self) -> float: ...


@dataclass(slots=True, eq=False)
class Peer:
    """A worker as its dispatcher knows it: what it was asked and has not answered, oldest first."""

    slot: int
    since: float
    opening: Opening | None = None
    calls: deque[Portion | str] = field(default_factory=deque)

    @property
    def chunk(self) -> Portion | None:
        """What it works on."""
        return self.calls[0] if self.calls and not isinstance(self.calls[0], str) else None


class Dispatcher:
    """A crew over any transport."""

    def __init__(self, transport: Transport, patience_s: float) -> None:
        self._on, self._patience_s = transport, patience_s
        self._peers: dict[int, Peer] = {}
        self._fails: Counter[int] = Counter()
        self._deaths: Counter[tuple[Any, ...]] = Counter()
        self._waiting: deque[Portion] = deque()
        self._events: deque[Event] = deque()
        self._answers: deque[Reply] = deque()
        self._pace_s = 0.0
        self._closing = False
        self._ever = False
        for slot in range(transport.slots):
            self._start(slot)

    def first(self) -> Joined:
        while True:
            for event in list(self._events):
                if isinstance(event, Joined):
                    self._events.remove(event)
                    return event
            self._step()

    def ask(self, method: str, *args: Any) -> Any:
        """An answer of any worker; of another one if the first one dies over it."""
        for _ in range(DEATHS):
            while not (opened := self._opened()):
                self._step()
            worker = min(opened, key=lambda each: len(self._peers[each].calls))
            self._call(worker, method, *args)
            while worker in self._peers and not self._answers:
                self._step()
            if self._answers:
                return self._answers.popleft().value
        raise ModelError(f"{DEATHS} workers died when they were asked for {method}; see what their machines say of it.")

    def map(self, chunks: Sequence[Portion]) -> Iterator[Event]:
        self._waiting = deque(self.ask("layout", list(chunks), self._on.slots))
        while self._waiting or any(peer.calls for peer in self._peers.values() if peer.opening) or self._events:
            self._hand_out()
            while self._events:
                yield self._events.popleft()
            if self._waiting or any(peer.chunk for peer in self._peers.values()):
                self._step()

    def more(self, chunk: Portion) -> None:
        """Another one, while `map` goes on."""
        self._waiting.append(chunk)
        self._hand_out()

    def close(self) -> Iterator[Closed]:
        """The canaries of all that are ready; whoever is still starting has measured nothing."""
        self._closing = True
        for worker in self._opened():
            self._call(worker, "closing")
        asked = set(self._opened())
        while asked & self._peers.keys():
            for worker, reply in self._received():
                if worker in asked and isinstance(reply, Reply):
                    asked.discard(worker)
                    yield Closed(worker=worker, name=self._on.name(worker), canary=reply.value)

    def _opened(self) -> list[int]:
        return [worker for worker, peer in self._peers.items() if peer.opening is not None]

    def _start(self, slot: int) -> None:
        self._peers[self._on.start(slot)] = Peer(slot=slot, since=self._on.clock())

    def _call(self, worker: int, method: str, *args: Any) -> None:
        peer = self._peers[worker]
        if not peer.calls:
            peer.since = self._on.clock()
        chunk = args[0] if method == "run" else method
        peer.calls.append(chunk)
        self._on.send(worker, method, *args)

    def _hand_out(self) -> None:
        """Dearest chunk first; a second one each only while there are plenty, or the last ones would queue up."""
        for depth in range(IN_FLIGHT):
            for worker in self._opened():
                plenty = depth == 0 or len(self._waiting) > len(self._peers)
                if self._waiting and plenty and len(self._peers[worker].calls) == depth:
                    self._call(worker, "run", self._waiting.popleft())

    def _step(self) -> None:
        """Wait a moment, and keep what came in."""
        if not self._peers:
            times = max(self._fails.values())
            raise ModelError(
                f"all workers died while they started, {times} times each; one worker alone (without --workers and "
                "--ray) says why."
            )
        for worker, reply in self._received():
            peer = self._peers[worker]
            if peer.opening is None:
                peer.opening, self._ever = reply.value, True
                peer.since = self._on.clock()
                self._fails[peer.slot] = 0
                self._events.append(Joined(worker=worker, name=self._on.name(worker), opening=reply.value))
                continue
            asked = peer.calls.popleft()
            now = self._on.clock()
            if not isinstance(asked, str):
                self._pace_s = max(self._pace_s, (now - peer.since) / max(asked.cost, 1.0))
                self._events.append(Done(worker=worker, outcomes=reply.value))
            else:
                self._answers.append(reply)
            peer.since = now

    def _received(self) -> Iterator[tuple[int, Reply]]:
        """Answers of workers that live; the dead are replaced, and what a worker refuses to do is raised."""
        for worker, reply in self._on.wait(1.0):
            if worker not in self._peers:
                continue
            if isinstance(reply, Died):
                self._bury(worker, reply.reason)
            elif reply.error is not None:
                raise reply.error
            else:
                yield worker, reply
        self._end_hanging()

    def _end_hanging(self) -> None:
        now = self._on.clock()
        for worker, peer in list(self._peers.items()):
            cost = peer.chunk.cost if peer.chunk else 0.0
            limit = max(self._patience_s, SLOWER * self._pace_s * cost)
            if peer.opening is None:
                limit = SLOWER * self._patience_s * 2 ** self._fails[peer.slot]
            if (peer.calls or peer.opening is None) and now - peer.since > limit:
                self._on.kill(worker)
                self._bury(worker, f"said nothing for {limit:.0f} s")

    def _bury(self, worker: int, reason: str) -> None:
        """Give a dead worker's chunks to others, and its slot a new one."""
        peer, name = self._peers.pop(worker), self._on.name(worker)
        _LOG.warning("%s is gone: %s", name, reason)
        blamed = peer.chunk
        for chunk in reversed([call for call in peer.calls if not isinstance(call, str)]):
            if chunk is blamed:
                self._deaths[chunk.tasks] += 1
                if self._deaths[chunk.tasks] >= DEATHS:
                    said = f"{DEATHS} workers died over it, the last one ({name}): {reason}"
                    failed = Failure(status="error", reason=said)
                    self._events.append(Done(worker=worker, outcomes=[(task, failed) for task in chunk.tasks]))
                    continue
            self._waiting.appendleft(chunk)
        if peer.opening is not None:
            self._events.append(Lost(worker=worker, reason=reason))
        else:
            self._fails[peer.slot] += 1
        if self._fails[peer.slot] < (STARTS if self._ever else DEATHS) and not self._closing:
            self._start(peer.slot)
