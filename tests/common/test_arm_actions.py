"""Arm actions with rotations of three and of six numbers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffusion_policy.common.arm_actions import to_axis_angle, to_rotation_6d


@pytest.mark.parametrize("n_arms", [1, 2])
def test_each_arm_is_rewritten(n_arms):
    actions = np.random.default_rng(0).normal(size=(4, 5, 7 * n_arms))
    rewritten = to_rotation_6d(actions)
    assert rewritten.shape == (4, 5, 10 * n_arms)
    for arm in range(n_arms):
        old, new = actions[..., 7 * arm :][..., :7], rewritten[..., 10 * arm :][..., :10]
        np.testing.assert_array_equal(new[..., [0, 1, 2, 9]], old[..., [0, 1, 2, 6]])
        rows = Rotation.from_rotvec(old[..., 3:6].reshape(-1, 3)).as_matrix()[:, :2]
        np.testing.assert_allclose(new[..., 3:9].reshape(-1, 2, 3), rows, atol=1e-12)
    np.testing.assert_allclose(to_rotation_6d(to_axis_angle(rewritten)), rewritten, atol=1e-12)


def test_one_step_without_a_batch():
    action = np.array([0.1, 0.2, 0.3, 0, 0, 0, 1])
    assert to_rotation_6d(action).tolist() == [0.1, 0.2, 0.3, 1, 0, 0, 0, 1, 0, 1]
    np.testing.assert_allclose(to_axis_angle(to_rotation_6d(action)), action, atol=1e-12)


@pytest.mark.parametrize(("rewrite", "size"), [(to_rotation_6d, 10), (to_axis_angle, 7), (to_rotation_6d, 0)])
def test_other_sizes(rewrite, size):
    with pytest.raises(ValueError, match="numbers for each arm"):
        rewrite(np.zeros((3, size)))
