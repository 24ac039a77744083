"""Tests for lowdim_obs_encoder.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_policy.model.common.lowdim_obs_encoder import LowdimObsEncoder

SHAPES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=4)


def encoder_of(shapes: list[list[int]]) -> LowdimObsEncoder:
    return LowdimObsEncoder({"obs": {f"key{i}": {"shape": shape} for i, shape in enumerate(shapes)}})


@given(SHAPES)
def test_decoding_undoes_encoding(shapes):
    encoder = encoder_of(shapes)
    obs = {key: torch.randn(2, 3, *shape) for key, shape in encoder.shapes.items()}
    features = encoder(obs)
    assert features.shape == (2, 3, encoder.feature_dim)
    decoded = encoder.decode(features)
    assert list(decoded) == list(obs)
    for key, value in obs.items():
        assert torch.equal(decoded[key], value)


def test_order_is_that_of_shape_meta_not_of_the_observation():
    encoder = LowdimObsEncoder(
        {"obs": {"z": {"shape": [1], "type": "low_dim"}, "a": {"shape": [2]}}, "action": {"shape": [2]}}
    )
    obs = {"a": torch.ones(1, 1, 2), "z": torch.zeros(1, 1, 1)}
    assert encoder(obs).flatten().tolist() == [0, 1, 1]


def test_images_are_refused_by_name():
    with pytest.raises(ValueError, match=r"\['camera'\] are not low_dim; give the policy an image encoder"):
        LowdimObsEncoder({"obs": {"camera": {"shape": [3, 8, 8], "type": "rgb"}, "pose": {"shape": [2]}}})


def test_has_no_weights():
    assert not encoder_of([[2]]).state_dict()
