"""Several environments at once: in this process, or in worker processes."""

import multiprocessing
import os
import pickle
import signal
import traceback
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diffusion_policy.env_runner.episode_env import EnvSpec, EpisodeEnv, Observation, StepResult
from diffusion_policy.env_runner.task_check import Bounds

Actions = NDArray[np.float32]
Call = tuple[int, tuple[Any, ...]]  # environment, arguments of its method


class EnvPool(ABC):
    """A row of environments; episode i of a batch runs in environment i. Use as a context manager.

    Args:
        n_envs: How many.
    """

    def __init__(self, n_envs: int) -> None:
        if n_envs < 1:
            raise ValueError(f"n_envs must be at least 1, got {n_envs}")
        self.n_envs = n_envs

    def reset(
        self,
        seeds: Sequence[int],
        options: Mapping[str, Any] | None = None,
        video_paths: Sequence[Path | None] | None = None,
    ) -> list[Observation]:
        """Begin one episode per seed, in the first environments.

        Args:
            seeds: At most `n_envs`.
            options: Passed to each environment's `reset`.
            video_paths: Where to record each episode; None does not.

        Returns:
            One `{key: (To, ...)}` per seed.
        """
        if len(seeds) > self.n_envs:
            raise ValueError(f"cannot begin {len(seeds)} episodes in {self.n_envs} environments")
        paths = [None] * len(seeds) if video_paths is None else video_paths
        arguments = [(seed, options, path) for seed, path in zip(seeds, paths, strict=True)]
        return self._call("reset", list(enumerate(arguments)))

    def step(self, indices: Sequence[int], actions: Sequence[Actions]) -> list[StepResult]:
        """Execute `actions[k]` (Ta, Da) in environment `indices[k]`; the other environments rest."""
        return self._call("step", [(i, (chunk,)) for i, chunk in zip(indices, actions, strict=True)])

    def action_bounds(self) -> Bounds | None:
        """Least and greatest values of the action space; None where it has none. After `reset`."""
        return self._call("action_bounds", [(0, ())])[0]

    @abstractmethod
    def close(self) -> None:
        """Close all environments and finish their videos."""

    @abstractmethod
    def _call(self, method: str, calls: Sequence[Call]) -> list[Any]:
        """Call `method` of some `EpisodeEnv`s; results in the order of `calls`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class InProcessPool(EnvPool):
    """Environments stepped one after the other in this process: best where a step takes microseconds.

    Args:
        spec: How to build each environment.
        n_envs: How many.
    """

    def __init__(self, spec: EnvSpec, n_envs: int) -> None:
        super().__init__(n_envs)
        self._envs = [EpisodeEnv(spec) for _ in range(n_envs)]

    def _call(self, method: str, calls: Sequence[Call]) -> list[Any]:
        return [getattr(self._envs[i], method)(*arguments) for i, arguments in calls]

    def close(self) -> None:
        """Close all environments and finish their videos."""
        for env in self._envs:
            env.close()


class WorkerPool(EnvPool):
    """Environments in spawned processes, a few in each: for simulators whose steps take milliseconds.

    Processes are spawned, not forked, because a fork copies the locks of CUDA and of threads in whatever
    state they are. An exception in a worker is raised again here, with the worker's traceback as a note; the
    pool can then only be closed.

    Args:
        spec: How to build each environment; must be picklable.
        n_envs: How many.
        n_workers: Processes; None takes one per processor that this one may use, at most `n_envs`.

    Raises:
        TypeError: `spec.env` cannot be pickled.
    """

    def __init__(self, spec: EnvSpec, n_envs: int, n_workers: int | None = None) -> None:
        super().__init__(n_envs)
        _check_picklable(spec)
        n_workers = min(n_envs, n_workers or _n_processors())
        self._workers = [_Worker(number, spec, n_envs) for number in range(n_workers)]

    def _call(self, method: str, calls: Sequence[Call]) -> list[Any]:
        shares = defaultdict(list)  # worker -> its calls; neighbours go to different workers
        for i, arguments in calls:
            shares[self._workers[i % len(self._workers)]].append((i, arguments))
        for worker, share in shares.items():
            worker.send(method, share)
        results = {i: result for worker in shares for i, result in worker.receive().items()}
        return [results[i] for i, _ in calls]

    def close(self) -> None:
        """Close all environments, finish their videos and end the processes."""
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.join()


class _Worker:
    """The parent's end of a worker process."""

    def __init__(self, number: int, spec: EnvSpec, n_envs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._number = number
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, spec, n_envs), daemon=True)
        self._process.start()
        theirs.close()  # so that its death closes the pipe

    def send(self, method: str, calls: list[Call]) -> None:
        try:
            self._connection.send((method, calls))
        except OSError as error:
            raise self._death() from error

    def receive(self) -> dict[int, Any]:
        """Results by environment."""
        try:
            results, exception = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if exception is not None:
            raise exception
        return results

    def _death(self) -> RuntimeError:
        self._process.join(timeout=5)
        return RuntimeError(
            f"environment worker {self._number} died with exit code {self._process.exitcode} (-9 often means "
            "that memory ran out). Lower n_envs, or use pool='in_process' to see where it fails"
        )

    def hang_up(self) -> None:
        """Close the pipe, on which the worker closes its environments and ends."""
        self._connection.close()

    def join(self, timeout_s: float = 10) -> None:
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()


def _n_processors() -> int:
    """Those that this process may run on, not those that the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(connection: Connection, spec: EnvSpec, n_envs: int) -> None:
    """Main function of a worker: answer calls until the parent hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and that ends the worker
    envs = [EpisodeEnv(spec) for _ in range(n_envs)]  # built when first used, so only this worker's are
    try:
        while True:
            method, calls = connection.recv()
            connection.send(_answer(envs, method, calls))
    except (EOFError, OSError):  # the parent hung up
        pass
    finally:
        for env in envs:
            env.close()


def _answer(
    envs: Sequence[EpisodeEnv], method: str, calls: Sequence[Call]
) -> tuple[dict[int, Any], Exception | None]:
    try:
        return {i: getattr(envs[i], method)(*arguments) for i, arguments in calls}, None
    except Exception as exception:
        return {}, _portable(exception)


def _portable(exception: Exception) -> Exception:
    """The exception with its traceback as a note, in a form that survives the pipe."""
    note = "Raised in an environment worker:\n" + "".join(traceback.format_exception(exception))
    exception.add_note(note)
    try:
        pickle.loads(pickle.dumps(exception))
    except Exception:
        exception = RuntimeError(f"{type(exception).__name__}: {exception}")
        exception.add_note(note)
    return exception


def _check_picklable(spec: EnvSpec) -> None:
    try:
        pickle.dumps(spec)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"env must be picklable for worker processes to build it, got {spec.env!r}; use a class or "
            "function at the top level of a module, a functools.partial of one, or pool='in_process'"
        ) from error
