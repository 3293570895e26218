"""What is asked of a GPU that the tests do not have: PyTorch's answers are put in its place."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from msacat.model.devices import Workers, choose_autocast

CUDA = torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("capability", "wanted"), [((7, 5), None), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_bf16_is_not_chosen_where_a_gpu_only_emulates_it(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", {CUDA: capability}.get)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_autocast("auto", CUDA) is wanted
    assert choose_autocast("on", CUDA) is torch.bfloat16


@pytest.mark.parametrize(("device", "backend", "current"), [("auto", "nccl", [1]), ("cpu", "gloo", [])])
def test_each_of_several_processes_has_its_own_gpu(monkeypatch, device, backend, current):
    began, made_current = [], []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", made_current.append)
    monkeypatch.setattr(dist, "is_initialized", lambda: False)
    monkeypatch.setattr(dist, "init_process_group", began.append)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    assert Workers.join(device) == Workers(1, 2, 1)
    assert began == [backend] and made_current == current
