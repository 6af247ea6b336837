"""A worker, and what the supervisor knows of it."""

import socket
from dataclasses import dataclass, field

from service.processes.channel import Channel
from service.processes.choice import BackOff, Silence


@dataclass(eq=False, slots=True)
class Place:
    """The place of a worker: when its process has ended, a new one takes it."""

    number: int
    due: float | None = None
    """When to start a process; None if one runs, or none is wanted yet."""
    pid: int = 0
    """0 while no process runs."""
    channel: Channel | None = None
    """None before the start, and when the process ends or cannot be reached."""
    handovers: list[socket.socket] = field(default_factory=list)
    """Where connections are handed over, for each listener."""
    given: int = 0
    """Connections handed over to the process."""
    turn: int = 0
    """Connections that all processes had been given after its last one."""
    is_started: bool = False
    """Whether connections can be handed over."""
    is_loaded: bool = False
    """Whether the process has loaded its models, or tried to."""
    has_loaded_once: bool = False
    is_hanging: bool = False
    """Whether it is killed because its event loop does not run."""
    silence: Silence = field(default_factory=Silence)
    back_off: BackOff = field(default_factory=BackOff)

    def occupy(self, pid: int, control: socket.socket, handovers: list[socket.socket]) -> None:
        """Take in a new process."""
        self.pid, self.channel, self.handovers = pid, Channel(control), handovers
        for one in handovers:
            one.setblocking(False)

    def disconnect(self) -> None:
        """Close the connections to the process."""
        self.is_started = False
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        for one in self.handovers:
            one.close()
        self.handovers = []
