"""What engines with learned weights do alike: read the weights, open the network at a size, step it, say what runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from engines.runtime import choose
from engines.runtime.cores import threads
from engines.runtime.graph import Graph
from engines.settings import Learned
from rtpipe.types import Array, Resolution
from rtpipe.weights.store import Stored, load

LOG = logging.getLogger(__name__)


class Network:
    """A network with its weights, and a session of it once :meth:`open` was called. Not thread-safe.

    ``usual`` is the name of the weights where the settings name none; ``make`` builds the graph for a size.
    ``progress`` is told in words what takes long; whoever runs the engine may replace it.
    """

    def __init__(self, settings: Learned, usual: str, make: Callable[[Stored, Resolution], Graph]) -> None:
        self.settings, self._usual, self._make = settings, usual, make
        self.progress: Callable[[str], None] = LOG.info
        self._stored: Stored | None = None
        self._session: choose.Chosen | None = None
        self._size: Resolution = (0, 0)

    @property
    def weights(self) -> Stored:
        """The weights, read when first asked for. Raises ``InputError`` that says how to get them."""
        if self._stored is None:
            self._stored = load(self.settings.weights or self._usual)
        return self._stored

    @property
    def facts(self) -> Mapping[str, str]:
        """The weights and the runtime, for the status line and the run's report."""
        said = {"weights": self._stored.path.stem} if self._stored is not None else {}
        return {**said, **(self._session.facts if self._session is not None else {})}

    @property
    def threads(self) -> int:
        """How many CPU threads compute it."""
        return threads(self.settings.threads)

    def graph(self, resolution: Resolution) -> Graph:
        """The network at a size. Raises ``InputError``."""
        return self._make(self.weights, resolution)

    def open(self, resolution: Resolution) -> None:
        """Make ready for windows of this size, with states of zero. Blocks: seconds, the first time up to a minute.
        Raises ``InputError`` and ``WorldError``."""
        if self._session is not None and self._size == resolution:
            self._session.reset()
            return
        self.close()
        self._session = choose.open(self.graph(resolution), self.settings, self.progress)
        self._size = resolution

    def step(self, *inputs: Array) -> Sequence[Array]:
        """One step of the network: float32 C-contiguous arrays in, arrays out that are valid until the next step."""
        if self._session is None:
            raise RuntimeError("warm() comes before the first window")
        return self._session.run(inputs)

    @property
    def overlaps(self) -> bool:
        """Whether the runtime takes the next step's inputs while it computes; see :meth:`stream`."""
        return self._session is not None and self._session.overlaps

    def stream(self, steps: Iterable[Sequence[Array]]) -> Iterator[Sequence[Array]]:
        """One step after the other for whoever has the inputs before their outputs are wanted: the same outputs as by
        :meth:`step`, each valid until the next is asked for; where the runtime can, the next step's inputs travel while
        this one is computed."""
        if self._session is None:
            raise RuntimeError("warm() comes before the first window")
        yield from self._session.stream(steps)

    def reset(self) -> None:
        """States are zero again."""
        if self._session is not None:
            self._session.reset()

    def close(self) -> None:
        """Give the runtime's memory back."""
        if self._session is not None:
            self._session.close()
            self._session = None
