"""Tests for normalizer.py."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from diffusion_policy.model.common.normalizer import FieldNormalizer, LinearNormalizer

DATA = {
    "obs": np.random.default_rng(0).normal(size=(50, 4, 3)).astype(np.float32) * [1, 50, 0.01] + [0, 300, -4],
    "action": np.random.default_rng(1).uniform(12, 511, (200, 2)),
}


@pytest.fixture
def fitted():
    return LinearNormalizer().fit(DATA)


class TestFit:
    def test_limits_map_the_range_of_each_dimension(self, fitted):
        normalized = fitted.normalize(DATA)
        for name, values in normalized.items():
            rows = values.reshape(-1, values.shape[-1])
            torch.testing.assert_close(rows.amin(0), -torch.ones(rows.shape[1]), rtol=0, atol=2e-4)
            torch.testing.assert_close(rows.amax(0), torch.ones(rows.shape[1]), rtol=0, atol=2e-4)
            assert values.shape == DATA[name].shape
            assert values.dtype == torch.float32

    @pytest.mark.parametrize("n_blocks", [1, 3, 200])
    def test_blocks_are_fitted_as_the_whole(self, n_blocks):
        whole = FieldNormalizer.create_fit(DATA["action"]).state_dict()
        parts = FieldNormalizer.create_fit_of_blocks(np.array_split(DATA["action"], n_blocks)).state_dict()
        for name in ("scale", "offset", "input_min", "input_max"):
            assert torch.equal(parts[name], whole[name])
        for name in ("input_mean", "input_std"):
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=0)
        with pytest.raises(ValueError, match="dimension 1 is nan in row 0"):
            FieldNormalizer.create_fit_of_blocks([np.ones((2, 2)), np.array([[0.0, np.nan]])])

    def test_closed_form(self):
        field = FieldNormalizer.create_fit(np.array([[0.0, 5.0], [10.0, 5.0]]), output_max=3, output_min=1)
        assert field.scale.tolist() == pytest.approx([0.2, 1])
        assert field.offset.tolist() == pytest.approx([1, -3])  # the constant 5 maps to the centre 2
        assert field.normalize(np.array([[10.0, 5.0]])).tolist() == [[3, 2]]

    def test_constant_dimensions_are_centred_and_not_scaled(self):
        field = FieldNormalizer.create_fit(np.array([[7.0], [7.00001]]))
        assert field.scale.item() == 1
        assert field.normalize(np.array([[7.0]])).item() == 0
        assert FieldNormalizer.create_fit(np.array([[7.0], [7.00001]]), range_eps=1e-7).scale.item() > 1e4

    def test_limits_without_offset(self):
        field = FieldNormalizer.create_fit(
            np.array([[-4.0, 0.0], [2.0, 0.0]]), fit_offset=False, output_max=2, output_min=-3
        )
        assert field.scale.tolist() == [0.5, 1]
        assert field.offset.tolist() == [0, 0]
        with pytest.raises(ValueError, match=r"must contain 0 inside, got 0\.5 to 1"):
            FieldNormalizer.create_fit(DATA["action"], fit_offset=False, output_min=0.5)

    def test_gaussian(self):
        values = torch.as_tensor(DATA["action"], dtype=torch.float32)
        field = FieldNormalizer.create_fit(values, mode="gaussian")
        normalized = field.normalize(values)
        torch.testing.assert_close(normalized.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
        torch.testing.assert_close(normalized.std(0, unbiased=True), torch.ones(2))
        scaled = FieldNormalizer.create_fit(values, mode="gaussian", fit_offset=False)
        assert scaled.offset.tolist() == [0, 0]
        torch.testing.assert_close(scaled.scale, field.scale)
        constant = FieldNormalizer.create_fit(np.full((3, 1), 4.0), mode="gaussian")
        assert (constant.scale.item(), constant.offset.item()) == (1, -4)

    def test_statistics(self, fitted):
        rows = DATA["obs"].reshape(-1, 3)
        for name, expected in [
            ("min", rows.min(0)),
            ("max", rows.max(0)),
            ("mean", rows.mean(0)),
            ("std", rows.std(0, ddof=1)),
        ]:
            found = getattr(fitted["obs"], f"input_{name}")
            torch.testing.assert_close(
                found, torch.as_tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-6
            )

    def test_one_row(self):
        assert FieldNormalizer.create_fit(np.array([[3.0]])).input_std.item() == 0

    @pytest.mark.parametrize(("last_n_dims", "shape"), [(0, (1,)), (1, (3,)), (2, (4, 3)), (3, (50, 4, 3))])
    def test_last_dimensions(self, last_n_dims, shape):
        field = FieldNormalizer.create_fit(DATA["obs"], last_n_dims=last_n_dims)
        assert field.scale.shape == shape
        assert field.normalize(DATA["obs"]).shape == (50, 4, 3)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite_are_refused(self, bad):
        values = DATA["action"].copy()
        values[17, 1] = values[90, 0] = bad
        with pytest.raises(ValueError, match=rf"field 'action'.*dimension 1 is {bad} in row 17 .*2 values"):
            LinearNormalizer().fit({**DATA, "action": values})

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="must be 'limits' or 'gaussian', got 'robust'"):
            LinearNormalizer().fit(DATA, mode="robust")
        with pytest.raises(ValueError, match="output_max must exceed output_min, got -1 and 1"):
            LinearNormalizer().fit(DATA, output_max=-1, output_min=1)
        with pytest.raises(ValueError, match=r"'obs'.*must not be empty"):
            LinearNormalizer().fit({"obs": np.zeros((0, 3))})
        with pytest.raises(ValueError, match="must have one shape"):
            FieldNormalizer.create_manual(
                np.ones(2), np.ones(3), dict.fromkeys(("min", "max", "mean", "std"), 0)
            )

    @pytest.mark.parametrize("name", ["a.b", "normalize"])
    def test_names_that_cannot_be_fields(self, name):
        with pytest.raises(ValueError, match=f"'{name}' cannot name a field"):
            LinearNormalizer().fit({name: DATA["action"]})


class TestUse:
    @given(
        hnp.arrays(np.float32, (7, 3), elements=st.floats(-1e3, 1e3, width=32)),
        st.sampled_from(["limits", "gaussian"]),
        st.booleans(),
    )
    def test_unnormalize_undoes_normalize(self, data, mode, fit_offset):
        field = FieldNormalizer.create_fit(data, mode=mode, fit_offset=fit_offset)
        back = field.unnormalize(field.normalize(data))
        torch.testing.assert_close(back, torch.from_numpy(data), rtol=1e-4, atol=1e-2)

    def test_dict_and_field_agree(self, fitted):
        action = DATA["action"][:5]
        torch.testing.assert_close(
            fitted.normalize({"action": action})["action"], fitted["action"].normalize(action)
        )
        torch.testing.assert_close(fitted["action"](action), fitted({"action": action})["action"])
        torch.testing.assert_close(
            fitted.unnormalize({"action": action})["action"], fitted["action"].unnormalize(action)
        )

    def test_bare_array(self):
        normalizer = LinearNormalizer().fit(DATA["action"])
        normalized = normalizer.normalize(DATA["action"])
        assert normalized.abs().max().item() == pytest.approx(1)
        np.testing.assert_allclose(normalizer.unnormalize(normalized), DATA["action"], rtol=1e-5)

    def test_images_and_identity(self):
        image = torch.rand(2, 3, 4, 4)
        field = FieldNormalizer.image_range()
        torch.testing.assert_close(field.normalize(image), image * 2 - 1)
        assert field.input_std.item() == pytest.approx(math.sqrt(1 / 12))
        torch.testing.assert_close(FieldNormalizer.create_identity().unnormalize(image), image)

    def test_gradients_pass_and_nothing_is_trainable(self, fitted):
        action = torch.ones(3, 2, requires_grad=True)
        fitted["action"].normalize(action).sum().backward()
        torch.testing.assert_close(action.grad, fitted["action"].scale.expand(3, 2))
        assert list(fitted.parameters()) == []

    def test_unknown_field(self, fitted):
        with pytest.raises(KeyError, match=r"no field 'state'; it has \['obs', 'action'\]"):
            fitted.normalize({"state": DATA["obs"]})
        with pytest.raises(KeyError, match="no field '_default'; it has"):
            fitted.normalize(DATA["action"])
        with pytest.raises(KeyError, match="it has none: fit it or load a checkpoint first"):
            LinearNormalizer()["action"]

    @pytest.mark.parametrize("shape", [(5, 3), (2,) * 0, (5, 1), (2, 1, 4)])
    def test_wrong_last_dimension(self, fitted, shape):
        with pytest.raises(ValueError, match=r"must be \(2,\) as in the fit, got shape \("):
            fitted["action"].normalize(np.zeros(shape))


class TestState:
    def test_names(self, fitted):
        suffixes = ["scale", "offset", "input_min", "input_max", "input_mean", "input_std"]
        assert list(fitted.state_dict()) == [f"{field}.{suffix}" for field in DATA for suffix in suffixes]

    def test_loading_creates_the_fields(self, fitted):
        fresh = torch.nn.ModuleDict({"normalizer": LinearNormalizer()})
        fresh.load_state_dict({f"normalizer.{name}": value for name, value in fitted.state_dict().items()})
        assert fresh["normalizer"].fields == ["obs", "action"]
        for name, values in fresh["normalizer"].normalize(DATA).items():
            assert torch.equal(values, fitted.normalize(DATA)[name])

    def test_loaded_values_are_copies(self, fitted):
        state = fitted.state_dict()
        fresh = LinearNormalizer()
        fresh.load_state_dict(state)
        state["action.scale"].fill_(0)
        assert fresh["action"].scale.min() > 0

    def test_missing_and_unexpected_keys_are_reported(self, fitted):
        state = {name: value for name, value in fitted.state_dict().items() if name.startswith("obs.")}
        other = copy.deepcopy(fitted)
        with pytest.raises(RuntimeError, match=r'Missing key.*"action\.scale"'):
            other.load_state_dict(state)
        assert torch.equal(other["action"].scale, fitted["action"].scale)
        with pytest.raises(RuntimeError, match=r'Unexpected key.*"weight"'):
            other.load_state_dict({**fitted.state_dict(), "weight": torch.ones(1)})
        del state["obs.input_std"]
        with pytest.raises(RuntimeError, match=r'Missing key.*"obs\.input_std"'):
            LinearNormalizer().load_state_dict(state)
        with pytest.raises(RuntimeError, match="size mismatch"):
            LinearNormalizer().fit({"obs": DATA["action"]}).load_state_dict(fitted.state_dict())

    def test_fields_to_come_are_created_on_the_device(self):
        normalizer = LinearNormalizer().to("meta")
        normalizer["image"] = FieldNormalizer.image_range()
        assert normalizer["image"].scale.device.type == "meta"
