"""Tests for device.py, and of distributed.py what a single process sees."""

import pytest
import torch

from diffusion_policy.common.device import resolve_device
from diffusion_policy.common.distributed import barrier, is_main_process, process_group, rank, world_size


@pytest.fixture
def machine(monkeypatch):
    """Pretend that a machine has these accelerators."""

    def has(cuda: bool = False, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return has


@pytest.mark.parametrize(
    ("accelerators", "device"),
    [({}, "cpu"), ({"cuda": True}, "cuda"), ({"mps": True}, "mps"), ({"cuda": True, "mps": True}, "cuda")],
)
def test_auto_takes_the_fastest(machine, accelerators, device):
    machine(**accelerators)
    assert resolve_device("auto") == torch.device(device)


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:1", "mps"])
def test_a_named_device_is_taken_where_it_is(machine, name):
    machine(cuda=True, mps=True)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "meta"])
def test_an_absent_device_is_refused_with_the_way_out(machine, name):
    machine()
    with pytest.raises(ValueError, match=f"'{name}' is not available on this machine; choose auto or cpu"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU"])
def test_an_unknown_name_is_refused_with_those_known(machine, name):
    machine(cuda=True)
    with pytest.raises(ValueError, match=f"device must be auto, cpu, cuda, cuda:N or mps, got '{name}'"):
        resolve_device(name)


def test_under_torchrun_every_process_has_its_own_accelerator(machine, monkeypatch):
    machine(cuda=True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda:3")
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    assert resolve_device("cpu") == torch.device("cpu")


def test_a_single_process_is_the_main_one(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with process_group(torch.device("cpu")):
        assert (rank(), world_size(), is_main_process()) == (0, 1, True)
        barrier()
        assert not torch.distributed.is_initialized()
