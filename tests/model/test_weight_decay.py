"""Tests for weight_decay.py."""

import torch
from torch import nn

from diffusion_policy.model.common.weight_decay import weight_decay_groups


class Network(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.zeros(3))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.embedding = nn.Embedding(5, 4)
        self.linear = nn.Linear(4, 4)


def names_of(network: nn.Module) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return [[names[id(p)] for p in group["params"]] for group in weight_decay_groups(network)]


def test_only_matrices_of_linear_maps_decay():
    decayed, others = names_of(Network())
    assert decayed == ["attention.in_proj_weight", "attention.out_proj.weight", "linear.weight"]
    assert others == [
        "attention.in_proj_bias",
        "attention.out_proj.bias",
        "embedding.weight",
        "linear.bias",
        "norm.bias",
        "norm.weight",
        "pos_emb",
    ]


def test_the_optimizer_decays_the_first_group_alone():
    first, second = torch.optim.AdamW(weight_decay_groups(Network()), weight_decay=0.1).param_groups
    assert (first["weight_decay"], second["weight_decay"]) == (0.1, 0.0)


def test_frozen_parameters_are_left_out():
    network = Network()
    network.linear.requires_grad_(False)
    assert not any("linear" in name for group in names_of(network) for name in group)


def test_a_linear_map_alone():
    assert names_of(nn.Linear(2, 2)) == [["weight"], ["bias"]]
