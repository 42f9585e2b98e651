"""Several processes that carry out one run together, as torchrun starts them.

Gradients are added up in one place, after the whole gradient of an update is there (`add_up`), instead of by
`DistributedDataParallel`: an update is several terms with a forward and a gradient each, adapters are switched in between,
and which parameters a term reaches depends on settings; a wrapper that hooks into one backward pass has to be told all of
this, a sum afterwards is right whatever came before, and a LoRA adapter is summed in a moment.

Waiting for work that one process does alone goes through the store, which can wait for days; what all do at once goes
through the process group. An error anywhere is written into the store, where the others find it.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from deattrib.errors import RunError
from deattrib.models.launched import taken_from_environment
from deattrib.models.ranks import ProcessGroup
from deattrib.models.sharding import is_spread

T = TypeVar("T")

LONGEST = timedelta(days=7)  # what ends a wait is an error, told through the store, not a clock
START = timedelta(minutes=30)  # for all processes to be there
PERIOD = 0.1  # seconds between two looks into the store
GRACE = 15.0  # seconds for a process to end by itself after another one's error
BUCKET = 2**24  # numbers that are summed at a time
_OPENED = itertools.count()  # runs of one launcher, one after the other, do not share what they write into the store


class Processes(ProcessGroup):
    """One of several processes.

    Args:
        rank, size: which one of how many.
        store: seen by all; `watched` is a second connection to it, for a thread.
        given: variables that go back into the environment at the end.
    """

    def __init__(self, rank: int, size: int, store: Any, watched: Any, given: Mapping[str, str]) -> None:
        self.rank, self.size, self._given = rank, size, given
        self._store, self._watched = store, watched
        self._turn = 0
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="deattrib-processes")

    @classmethod
    def from_environment(cls) -> Processes:
        """As torchrun says; its variables are taken out of the environment, and this process sees one GPU of its own."""
        given = taken_from_environment()
        rank, size, local = int(given["RANK"]), int(given["WORLD_SIZE"]), int(given.get("LOCAL_RANK", "0"))
        cuda = _take_device(local)
        agents = given.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # the launcher keeps the store then
        prefix = f"deattrib/{given.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_OPENED)}"

        def connected(*, keeps: bool) -> Any:
            connect: Any = dist  # these two have no types of their own
            where = given["MASTER_ADDR"], int(given["MASTER_PORT"])
            store = connect.TCPStore(*where, size, keeps, timeout=START, multi_tenant=True)
            return connect.PrefixStore(prefix, store)

        store = connected(keeps=rank == 0 and not agents)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=LONGEST)
        return cls(rank, size, store, connected(keeps=False), given)

    # -- rows and numbers ---------------------------------------------------------------------------------------------
    def joined(self, values: Tensor) -> Tensor:
        return torch.cat([part.to(values.device) for part in self.gather(values.cpu())])

    def sum(self, value: Tensor) -> Tensor:
        total = value.detach().clone()
        dist.all_reduce(total)
        return total

    def any(self, flag: bool) -> bool:
        total = torch.tensor(int(flag))
        dist.all_reduce(total, op=dist.ReduceOp.MAX)
        return bool(total)

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        bucket: list[Tensor] = []
        for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
            if is_spread(gradient):
                gradient.mul_(self.size)  # a mean over the processes already
                continue
            if bucket and sum(item.numel() for item in bucket) + gradient.numel() > BUCKET:
                _add_up(bucket)
                bucket = []
            bucket.append(gradient)
        if bucket:
            _add_up(bucket)

    def figures(self, values: dict[str, float], *, largest: frozenset[str] = frozenset()) -> dict[str, float]:
        everyone = self.gather(values)
        return {name: (max if name in largest else sum)(one[name] for one in everyone) for name in values}

    def same(self, parameters: Sequence[nn.Parameter]) -> None:
        whole = (p.detach() for p in parameters if not is_spread(p))
        sums = [tuple(float(of.sum(dtype=torch.float64)) for of in (value, value.abs())) for value in whole]
        everyone = self.gather(sums)
        for rank, other in enumerate(everyone):
            if other != everyone[0]:
                raise RunError(
                    f"Processes 0 and {rank} no longer hold the same weights, so the run cannot go on: a scorer or method that "
                    "draws random numbers, or does different things on different rows, may have changed one of them. Go on "
                    "from the newest checkpoint with one process."
                )

    # -- turns --------------------------------------------------------------------------------------------------------
    def gather(self, value: T) -> list[T]:
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, value)
        return everyone

    def together(self, function: Callable[[], T]) -> list[T]:
        mine: Exception | None = None
        result: Any = None
        try:
            result = function()
        except Exception as error:
            mine = error
        everyone = self.gather((result, None if mine is None else _told(mine)))
        if mine is not None:
            raise mine
        for rank, (_, reason) in enumerate(everyone):
            if reason is not None:
                raise self._failed(rank, reason)
        return [value for value, _ in everyone]

    def share(self, function: Callable[[], T]) -> T:
        box: list[Any] = [None]
        failure: Exception | None = None
        if self.leads:
            try:
                box = [(function(), None)]
            except Exception as error:
                failure, box = error, [(None, _told(error))]
        self._after_leader()
        dist.broadcast_object_list(box, src=0)
        if failure is not None:
            raise failure
        if box[0][1] is not None:
            raise self._failed(0, box[0][1])
        result: T = box[0][0]
        return result

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        if self.leads:
            yield
            self._after_leader()
        else:
            self._after_leader()
            yield

    def _after_leader(self) -> None:
        """Returns when the leader has come here too, however long that takes."""
        self._turn += 1
        key = f"turn/{self._turn}"
        if self.leads:
            self._store.set(key, "1")
            return
        while not self._store.check([key]):
            self._heed(self._store)
            time.sleep(PERIOD)

    # -- errors -------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        error = raised[1]
        self._left.set()
        self._thread.join()
        os.environ.update(self._given)
        if error is not None:
            with suppress(Exception):
                self._store.compare_set("failed", "", json.dumps([self.rank, _told(error)]))
        with suppress(Exception):
            dist.destroy_process_group()  # whoever waits for this process learns that it has gone
        with suppress(Exception):
            self._leave(in_order=error is None)

    def _leave(self, *, in_order: bool) -> None:
        """A launcher ends all processes as soon as one has failed: the leader is to have said why by then."""
        if self.leads:
            self._store.set("ended", "1")
            return
        deadline = time.monotonic() + GRACE
        while not self._store.check(["ended"]) and time.monotonic() < deadline and not in_order:
            time.sleep(PERIOD)

    def explain(self, error: BaseException) -> BaseException:
        if isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError):
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:  # its connection may have broken before its last words are here
                try:
                    self._heed(self._store)
                except RunError as reason:
                    return reason
                except Exception:
                    break
                time.sleep(PERIOD)
            if "onnection" in str(error) or "gloo" in str(error):
                return RunError(
                    f"Another of the {self.size} processes has ended without a word: it was killed, perhaps for lack of "
                    "memory, or its machine is gone. Go on from what was saved with --resume, with any number of processes."
                )
        return error

    def _failed(self, rank: int, reason: str) -> RunError:
        return RunError(f"Process {rank} of {self.size} failed: {reason}")

    def _heed(self, store: Any) -> None:
        """Raises RunError where another process has told of an error."""
        if store.check(["failed"]):
            rank, reason = json.loads(store.get("failed"))
            if rank != self.rank:
                raise self._failed(rank, reason)

    def _watch(self) -> None:
        """Ends this process where another has failed and this one has not noticed."""
        while not self._left.wait(1.0):
            try:
                self._heed(self._watched)
            except RunError as reason:
                if not self._left.wait(GRACE):
                    self.last_words(str(reason))
                    os.write(2, f"error: {reason}\n".encode() if self.leads else b"")
                    os._exit(1)
                return
            except Exception:  # the store has gone, and the launcher with it
                return


def _add_up(tensors: list[Tensor]) -> None:
    flat = torch.cat([item.reshape(-1) for item in tensors])
    dist.all_reduce(flat)
    for item, part in zip(tensors, flat.split([item.numel() for item in tensors]), strict=True):
        item.copy_(part.view_as(item))


def _take_device(local: int) -> bool:
    """Make this process' GPU the only one that it sees; whether there are any."""
    count = torch.cuda.device_count()  # asks the driver's management library: CUDA itself would read the variable now
    if not count:
        return False
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = visible.split(",") if visible else [str(index) for index in range(count)]
    if len(known) > 1:  # one that sees a single device was given it by its launcher
        if local >= len(known):
            raise RunError(f"Process {local} of this machine has no GPU: {len(known)} are visible. Start that many processes.")
        os.environ["CUDA_VISIBLE_DEVICES"] = known[local]
        if torch.cuda.device_count() > 1:  # it was CUDA itself after all
            torch.cuda.set_device(local)
    return True


def _told(error: Any) -> str:
    return f"{type(error).__name__}: {error}"
