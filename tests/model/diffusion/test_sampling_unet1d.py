"""Tests for sampling_unet1d.py and packed_conv1d.py: the same numbers as the network, whatever happens to it."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from diffusion_policy.model.common.packed_conv1d import PackedConv1d, with_packed_convolutions
from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D
from diffusion_policy.model.diffusion.ema_model import EMAModel

B, T, D = 3, 8, 2


def unet(local: bool = False, condition: bool = True, scale: bool = True) -> ConditionalUnet1D:
    torch.manual_seed(0)
    return ConditionalUnet1D(
        D,
        local_cond_dim=4 if local else None,
        global_cond_dim=6 if condition else None,
        diffusion_step_embed_dim=8,
        down_dims=(16, 32),
        cond_predict_scale=scale,
    ).eval()


def inputs(network: ConditionalUnet1D, n_rows: int = B) -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    conditions = {}
    if network.global_cond_dim is not None:
        conditions["global_cond"] = torch.randn(n_rows, 6, generator=generator)
    if network.local_cond_dim is not None:
        conditions["local_cond"] = torch.randn(n_rows, T, 4, generator=generator)
    return torch.randn(n_rows, T, D, generator=generator), conditions


def assert_same(network: ConditionalUnet1D, n_rows: int = B) -> None:
    sample, conditions = inputs(network, n_rows)
    with torch.inference_mode():
        predict = network.conditioned(**conditions)
        for t in (99, 50, 0, 50):
            ours, plain = predict(sample, t), network(sample, t, **conditions)
            torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("scale", [False, True])
def test_predicts_what_the_network_does(local: bool, condition: bool, scale: bool) -> None:
    assert_same(unet(local, condition, scale))


def test_follows_rows_that_come_and_go() -> None:
    network = unet()
    for n_rows in (3, 1, 5):
        assert_same(network, n_rows)


def change_by_optimizer(network: ConditionalUnet1D) -> None:
    sample, conditions = inputs(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    network(sample, 3, **conditions).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def change_by_average(network: ConditionalUnet1D) -> None:
    other = unet()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    average = EMAModel(network, min_value=0.5)
    average.step(other)
    average.step(other)


def change_by_loading(network: ConditionalUnet1D) -> None:
    network.load_state_dict({name: value + 0.1 for name, value in network.state_dict().items()})


@pytest.mark.parametrize("change", [change_by_optimizer, change_by_average, change_by_loading])
def test_changed_weights_are_noticed(change) -> None:
    network = unet()
    assert_same(network)
    sample, conditions = inputs(network)
    before = network(sample, 3, **conditions)
    change(network)
    assert not torch.allclose(before, network(sample, 3, **conditions))
    assert_same(network)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_do_not_share_what_was_prepared(twin) -> None:
    network = unet()
    assert_same(network)
    other = twin(network)
    other.load_state_dict({name: value + 0.1 for name, value in network.state_dict().items()})
    assert_same(other)
    assert_same(network)
    assert set(network.state_dict()) == set(unet().state_dict())
    assert len(list(network.parameters())) == len(list(unet().parameters()))


def test_gradients_and_training_take_the_network_itself() -> None:
    network = unet()
    sample, conditions = inputs(network)
    network.conditioned(**conditions)(sample, 3).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_other_types_are_served_without_packing() -> None:
    network = unet().double()
    sample, conditions = inputs(network)
    conditions = {name: value.double() for name, value in conditions.items()}
    with torch.inference_mode():
        ours = network.conditioned(**conditions)(sample.double(), 3)
        torch.testing.assert_close(ours, network(sample.double(), 3, **conditions), rtol=1e-12, atol=1e-12)


def test_conditions_and_horizons_are_checked_as_by_the_network() -> None:
    network = unet()
    sample, conditions = inputs(network)
    with torch.inference_mode():
        with pytest.raises(ValueError, match="global_cond must be given"):
            network.conditioned()(sample, 3)
        with pytest.raises(ValueError, match="horizon 7 cannot be halved 1 times"):
            network.conditioned(**conditions)(sample[:, :7], 3)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
def test_packed_convolution_is_the_convolution(kind, kernel_size: int, stride: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = kind(8, 16, kernel_size, stride, padding=kernel_size // 2, bias=bias)
    packed = with_packed_convolutions(nn.Sequential(conv))
    assert isinstance(packed[0], PackedConv1d)  # type: ignore[index]
    with torch.inference_mode():
        for shape in [(1, 8, 4), (2, 8, 4), (1, 8, 9)]:
            x = torch.randn(shape)
            torch.testing.assert_close(packed(x), conv(x), rtol=1e-5, atol=1e-5)


def test_weights_changed_behind_its_back_count_after_eval() -> None:
    network = unet()
    assert_same(network)
    for parameter in network.parameters():
        parameter.data.mul_(1.5)
    assert_same(network.eval())


def test_networks_made_in_inference_mode_are_served() -> None:
    with torch.inference_mode():
        network = unet()
    assert_same(network)


def test_a_sampler_may_differentiate() -> None:
    network = unet()
    sample, conditions = inputs(network)
    with torch.no_grad():
        predict = network.conditioned(**conditions)
        predict(sample, 3)
    x = sample.clone().requires_grad_()
    predict(x, 3).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_two_threads_may_pack_at_once() -> None:
    network = unet()
    sample, conditions = inputs(network)
    with torch.inference_mode():
        expected = network(sample, 3, **conditions)

    def predict(_: int) -> Tensor:
        with torch.inference_mode():
            return network.conditioned(**conditions)(sample, 3)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            network.eval()  # prepare anew
            for ours in threads.map(predict, range(8)):
                torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
