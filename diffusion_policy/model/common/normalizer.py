"""Affine normalisation of observations and actions, fitted on the demonstrations."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

Array: TypeAlias = np.ndarray | Tensor

DEFAULT_FIELD = "_default"
STATS = ("min", "max", "mean", "std")
BUFFERS = ("scale", "offset", *(f"input_{name}" for name in STATS))


class FieldNormalizer(nn.Module):
    """y = x * scale + offset over the last dimensions of x, and back; float32.

    The buffers have the shape of these last dimensions, mostly (D,). Shape (1,) acts on every element, as
    for images.

    Args:
        scale: (D,), without zeros.
        offset: (D,).
        input_stats: `min`, `max`, `mean` and `std` of the data before normalisation, each (D,).

    Raises:
        ValueError: the shapes differ.
    """

    scale: Tensor
    offset: Tensor
    input_min: Tensor
    input_max: Tensor
    input_mean: Tensor
    input_std: Tensor

    def __init__(self, scale: Array, offset: Array, input_stats: Mapping[str, Array]) -> None:
        super().__init__()
        values = [scale, offset, *(input_stats[name] for name in STATS)]
        tensors = [torch.atleast_1d(torch.as_tensor(value, dtype=torch.float32)).clone() for value in values]
        if len({tensor.shape for tensor in tensors}) != 1:
            shapes = {name: tuple(tensor.shape) for name, tensor in zip(BUFFERS, tensors, strict=True)}
            raise ValueError(f"scale, offset and input statistics must have one shape, got {shapes}")
        for name, tensor in zip(BUFFERS, tensors, strict=True):
            self.register_buffer(name, tensor)

    @classmethod
    def create_fit(
        cls,
        data: Array,
        mode: str = "limits",
        output_max: float = 1.0,
        output_min: float = -1.0,
        range_eps: float = 1e-4,
        fit_offset: bool = True,
        last_n_dims: int = 1,
    ) -> "FieldNormalizer":
        """Fit to data; see `LinearNormalizer.fit` for the arguments."""
        rows = _rows(data, last_n_dims)
        std = rows.std(0) if len(rows) > 1 else torch.zeros_like(rows[0])
        stats = {"min": rows.amin(0), "max": rows.amax(0), "mean": rows.mean(0), "std": std}
        if mode == "limits" and fit_offset:
            scale, offset = _fit_limits(stats["min"], stats["max"], output_min, output_max, range_eps)
        elif mode == "limits":
            scale, offset = _fit_magnitude(stats["min"], stats["max"], output_min, output_max, range_eps)
        elif mode == "gaussian":
            scale = 1 / torch.where(stats["std"] < range_eps, 1.0, stats["std"])
            offset = -stats["mean"] * scale * fit_offset
        else:
            raise ValueError(f"mode must be 'limits' or 'gaussian', got {mode!r}")
        return cls(scale, offset, stats)

    @classmethod
    @torch.no_grad()
    def create_fit_of_blocks(cls, blocks: Iterable[Array]) -> "FieldNormalizer":
        """`create_fit` to the limits of all rows of some arrays (..., D), which need not fit into memory at once."""
        count, total, squares = 0, torch.tensor(0.0), torch.tensor(0.0)
        low, high = torch.tensor(math.inf), torch.tensor(-math.inf)
        for block in blocks:
            rows = _rows(block, last_n_dims=1).cpu()
            low, high = torch.minimum(low, rows.amin(0)), torch.maximum(high, rows.amax(0))
            count += len(rows)
            total = total + rows.double().sum(0)
            squares = squares + rows.double().square().sum(0)
        mean = total / count
        std = ((squares - count * mean.square()).clamp(min=0) / max(count - 1, 1)).sqrt()
        limits = cls.create_fit(torch.stack([low, high]))
        return cls(limits.scale, limits.offset, {"min": low, "max": high, "mean": mean, "std": std})

    @classmethod
    def create_manual(
        cls, scale: Array, offset: Array, input_stats_dict: Mapping[str, Array]
    ) -> "FieldNormalizer":
        """Take scale, offset and statistics as given."""
        return cls(scale, offset, input_stats_dict)

    @classmethod
    def create_identity(cls) -> "FieldNormalizer":
        """Leave everything as it is."""
        return cls.from_numbers(scale=1, offset=0, minimum=-1, maximum=1, mean=0, std=1)

    @classmethod
    def image_range(cls) -> "FieldNormalizer":
        """Map pixel values in [0, 1] to [-1, 1]; the statistics are those of a uniform distribution."""
        return cls.from_numbers(scale=2, offset=-1, minimum=0, maximum=1, mean=0.5, std=math.sqrt(1 / 12))

    @classmethod
    def from_numbers(
        cls, scale: float, offset: float, minimum: float, maximum: float, mean: float, std: float
    ) -> "FieldNormalizer":
        """One scale and offset for every element."""
        stats = {"min": minimum, "max": maximum, "mean": mean, "std": std}
        return cls(torch.tensor(scale), torch.tensor(offset), {k: torch.tensor(v) for k, v in stats.items()})

    def normalize(self, x: Array) -> Tensor:
        """Return x * scale + offset, shaped as `x` (..., D).

        Raises:
            ValueError: the last dimension of `x` is not D.
        """
        return self._checked(x) * self.scale + self.offset

    def unnormalize(self, x: Array) -> Tensor:
        """Return (x - offset) / scale, shaped as `x` (..., D); errors as in `normalize`."""
        return (self._checked(x) - self.offset) / self.scale

    forward = normalize

    def _checked(self, x: Array) -> Tensor:
        expected = tuple(self.scale.shape)
        if expected not in ((1,), tuple(x.shape[-len(expected) :])):
            raise ValueError(
                f"the last dimensions must be {expected} as in the fit, got shape {tuple(x.shape)}"
            )
        return torch.as_tensor(x).to(self.scale.device, torch.float32)


class LinearNormalizer(nn.Module):
    """One `FieldNormalizer` per name ("action", "obs", or each observation key).

    The state dict holds `<field>.scale`, `<field>.offset` and `<field>.input_{min,max,mean,std}`. Loading one
    creates the fields that are not there yet, so a policy need not be fitted before its weights are loaded.
    """

    _anchor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_anchor", torch.zeros(0), persistent=False)  # the device of fields to come

    @torch.no_grad()
    def fit(
        self,
        data: Mapping[str, Array] | Array,
        mode: str = "limits",
        output_max: float = 1.0,
        output_min: float = -1.0,
        range_eps: float = 1e-4,
        fit_offset: bool = True,
        last_n_dims: int = 1,
    ) -> "LinearNormalizer":
        """Fit one field per array; a bare array is the unnamed field.

        Args:
            data: Arrays (..., D), or with `last_n_dims` dimensions that are normalised separately.
            mode: "limits" maps [min, max] to [output_min, output_max]; "gaussian" divides by the standard
                deviation (unbiased) after subtracting the mean.
            output_max: Upper end of the target range.
            output_min: Lower end of the target range.
            range_eps: Dimensions that vary less count as constant: they are shifted (to the middle of the
                range, or to mean 0) but not scaled.
            fit_offset: If false only scale: "limits" then maps [-a, a] with a = max |x|.
            last_n_dims: How many last dimensions have a scale of their own; 0 means one for all.

        Returns:
            Itself.

        Raises:
            ValueError: data with NaN or infinity (names field, dimension and row), or bad arguments.
        """
        if output_max <= output_min:
            raise ValueError(f"output_max must exceed output_min, got {output_max} and {output_min}")
        fields = data if isinstance(data, Mapping) else {DEFAULT_FIELD: data}
        for name, values in fields.items():
            try:
                self[name] = FieldNormalizer.create_fit(
                    values, mode, output_max, output_min, range_eps, fit_offset, last_n_dims
                )
            except ValueError as error:
                raise ValueError(f"cannot fit the normaliser of field '{name}': {error}") from error
        return self

    def normalize(self, x: Mapping[str, Array] | Array) -> Any:
        """Normalise each array of a dict by the field of its name (or a bare array by the unnamed field).

        Raises:
            KeyError: a name that was not fitted.
            ValueError: an array with another last dimension than in the fit.
        """
        if isinstance(x, Mapping):
            return {name: self[name].normalize(values) for name, values in x.items()}
        return self[DEFAULT_FIELD].normalize(x)

    def unnormalize(self, x: Mapping[str, Array] | Array) -> Any:
        """Undo `normalize`; errors are the same."""
        if isinstance(x, Mapping):
            return {name: self[name].unnormalize(values) for name, values in x.items()}
        return self[DEFAULT_FIELD].unnormalize(x)

    forward = normalize

    @property
    def fields(self) -> list[str]:
        """Names of the fields."""
        return list(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def __getitem__(self, name: str) -> FieldNormalizer:
        field = self._modules.get(name)
        if not isinstance(field, FieldNormalizer):
            hint = (
                f"it has {self.fields}" if self.fields else "it has none: fit it or load a checkpoint first"
            )
            raise KeyError(f"the normaliser has no field '{name}'; {hint}")
        return field

    def __setitem__(self, name: str, field: FieldNormalizer) -> None:
        try:
            self.add_module(name, field.to(self._anchor.device))
        except KeyError as error:
            raise ValueError(
                f"'{name}' cannot name a field of a normaliser ({error}); rename the key"
            ) from error

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *args: Any) -> None:
        for name in _field_names(state_dict, prefix):
            if name not in self:
                self[name] = FieldNormalizer(*_blank(state_dict[f"{prefix}{name}.scale"].shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _field_names(state_dict: Iterable[str], prefix: str) -> list[str]:
    keys = (key.removeprefix(prefix) for key in state_dict if key.startswith(prefix))
    return [key.removesuffix(".scale") for key in keys if key.endswith(".scale") and key.count(".") == 1]


def _blank(shape: torch.Size) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Values to be overwritten: NaN, so that one that is not shows."""
    nan = torch.full(shape, math.nan)
    return nan, nan, dict.fromkeys(STATS, nan)


def _rows(data: Array, last_n_dims: int) -> Tensor:
    """Data as finite float32 rows (N, *last dimensions)."""
    values = torch.as_tensor(np.asarray(data) if not isinstance(data, Tensor) else data).to(torch.float32)
    if not 0 <= last_n_dims <= values.ndim or values.numel() == 0:
        raise ValueError(
            f"data must not be empty and have at least {last_n_dims} dimensions, got {data.shape}"
        )
    rows = values.reshape(-1, *(values.shape[values.ndim - last_n_dims :] or (1,)))
    bad = torch.nonzero(~torch.isfinite(rows))
    if len(bad):
        row, *dim = bad[0].tolist()
        raise ValueError(
            f"dimension {', '.join(map(str, dim))} is {rows[row][tuple(dim)].item()} in row {row} (the first "
            f"of {len(bad)} values that are not finite); remove or repair these steps"
        )
    return rows


def _fit_limits(
    low: Tensor, high: Tensor, output_min: float, output_max: float, range_eps: float
) -> tuple[Tensor, Tensor]:
    constant = high - low < range_eps
    scale = (output_max - output_min) / torch.where(constant, output_max - output_min, high - low)
    offset = torch.where(constant, (output_max + output_min) / 2 - low, output_min - scale * low)
    return scale, offset


def _fit_magnitude(
    low: Tensor, high: Tensor, output_min: float, output_max: float, range_eps: float
) -> tuple[Tensor, Tensor]:
    if not output_min < 0 < output_max:
        raise ValueError(
            f"without an offset the output range must contain 0 inside, got {output_min} to {output_max}"
        )
    output_magnitude = min(-output_min, output_max)
    magnitude = torch.maximum(low.abs(), high.abs())
    scale = output_magnitude / torch.where(magnitude < range_eps, output_magnitude, magnitude)
    return scale, torch.zeros_like(scale)
