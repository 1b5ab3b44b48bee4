"""CPU time and memory of a process and everything that it has started, read from /proc (Linux).

The CPU time of a process that ended is in its parent's account of children, but only if the parent
waited for it; Ray's parents do not. So the meter looks often and keeps what it has seen last. For
each process it counts the larger of the two: what its children were seen to use before they ended,
and what its account of children says. Neither can count anything twice.
"""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LOOK_EVERY_S = 0.1
_MEMORY_EVERY = 5  # looks; summing up pages is slow

Id = tuple[int, int]  # process number, time of its start: numbers are used again


class TreeMeter:
    """Watches the process `root` from another one, which must have started it as a session."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[Id, _Process] = {}
        self._peak_bytes = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "TreeMeter":
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def peak_pss_mb(self) -> float:
        """The largest sum of proportional set sizes: shared pages count once."""
        return self._peak_bytes / 1e6

    def cpu_seconds(self) -> float:
        """User and system time of all processes, the ended ones too, since the root's start."""
        self._look()
        with self._lock:
            roots = [id for id, process in self._seen.items() if process.parent is None]
            return sum(self._total(id) for id in roots) / _TICKS_PER_SECOND

    def processes(self) -> list[int]:
        """Those that run, the youngest first."""
        self._look()
        return [id[0] for id, process in reversed(self._seen.items()) if process.runs]

    def _total(self, id: Id) -> int:
        process = self._seen[id]
        running = sum(self._total(child) for child in process.children if self._seen[child].runs)
        ended = sum(self._total(child) for child in process.children if not self._seen[child].runs)
        return process.own_ticks + running + max(ended, process.waited_ticks)

    def _watch(self) -> None:
        looks = 0
        while not self._stop.wait(_LOOK_EVERY_S):
            self._look()
            if looks % _MEMORY_EVERY == 0:
                self._weigh()
            looks += 1

    def _weigh(self) -> None:
        with self._lock:
            running = [id[0] for id, process in self._seen.items() if process.runs]
        self._peak_bytes = max(self._peak_bytes, sum(map(_pss_bytes, running)))

    def _look(self) -> None:
        with self._lock:
            now = {stat.id: stat for stat in _all_processes()}
            ids = {id[0]: id for id in now}
            for id, process in self._seen.items():
                process.runs = id in now
            for id in sorted(now, key=lambda id: id[1]):  # parents before their children
                stat = now[id]
                if id in self._seen:
                    self._seen[id].note(stat)
                elif (parent := ids.get(stat.parent)) in self._seen:
                    self._seen[id] = _Process(parent).note(stat)
                    self._seen[parent].children.append(id)
                elif stat.session == self._root:  # the root, or the orphan of one never seen
                    self._seen[id] = _Process(None).note(stat)


@dataclass(frozen=True, slots=True)
class _Stat:
    """A line of /proc/PID/stat; times in ticks."""

    id: Id
    parent: int
    session: int
    own_ticks: int
    waited_ticks: int  # of ended children


@dataclass(slots=True)
class _Process:
    parent: Id | None
    children: list[Id] = field(default_factory=list)
    own_ticks: int = 0
    waited_ticks: int = 0
    runs: bool = True

    def note(self, stat: _Stat) -> "_Process":
        self.own_ticks, self.waited_ticks = stat.own_ticks, stat.waited_ticks
        return self


def _all_processes() -> list[_Stat]:
    stats = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                text = Path("/proc", name, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # has just ended
            words = text.rpartition(")")[2].split()  # the name before may hold anything
            parent, session = int(words[1]), int(words[3])
            user, system, waited_user, waited_system = map(int, words[11:15])
            id = (int(name), int(words[19]))
            stats.append(_Stat(id, parent, session, user + system, waited_user + waited_system))
    return stats


def _pss_bytes(number: int) -> int:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # has ended
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
