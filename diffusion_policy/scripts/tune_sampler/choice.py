"""Which sampler to take: the cheapest that samples what the reference samples and scores what it scores."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from diffusion_policy.common.statistics import Estimate, bootstrap_mean_interval, paired_bootstrap_interval
from diffusion_policy.env_runner.report import RolloutResult
from diffusion_policy.scripts.tune_sampler.candidates import Candidate


@dataclass(frozen=True)
class Margins:
    """What is accepted.

    Attributes:
        energy_distance: the upper end of the interval must be below.
        score: the lower end of the interval of the paired difference must be above minus this.
    """

    energy_distance: float
    score: float


@dataclass
class Measured:
    """A candidate and what is known of it.

    Attributes:
        candidate: sampler and steps.
        denoiser_calls: of one chunk.
        ms_per_chunk: time of one chunk.
        energy_distance: relative, to samples of the reference.
        rollout: its episodes; None when it was not rolled out.
    """

    candidate: Candidate
    denoiser_calls: int
    ms_per_chunk: float
    energy_distance: Estimate
    rollout: RolloutResult | None = None

    @property
    def cost_ms(self) -> float:
        """Time of a chunk in two digits: what is finer is noise."""
        return float(f"{self.ms_per_chunk:.2g}")

    def is_near(self, margins: Margins) -> bool:
        """The first criterion."""
        return self.energy_distance.high < margins.energy_distance

    def is_undecided(self, margins: Margins) -> bool:
        """Whether more observations or samples may yet show that it is near."""
        return not self.is_near(margins) and self.energy_distance.low < margins.energy_distance

    def score(self) -> Estimate | None:
        """Mean score of the rollout."""
        return None if self.rollout is None else _mean(_scores(self.rollout))

    def success(self) -> Estimate | None:
        """Rate of successful episodes of the rollout; None where the task knows no success."""
        return None if self.rollout is None else self.rollout.metrics().get("success")

    def difference(self, reference: "Measured") -> Estimate | None:
        """Mean difference of the scores, this minus the reference's, paired by seed."""
        if self.rollout is None or reference.rollout is None:
            return None
        return _mean_difference(_scores(self.rollout), _scores(reference.rollout))

    def is_not_inferior(self, reference: "Measured", margins: Margins) -> bool | None:
        """The second criterion; None when it was not rolled out."""
        difference = self.difference(reference)
        return None if difference is None else difference.low > -margins.score


@dataclass(frozen=True)
class Comparison:
    """All candidates beside the reference.

    Attributes:
        reference: its distance is that of two halves of its samples, which shows what noise alone makes.
        candidates: cheapest first; of equally cheap ones the nearest to the reference.
        margins: of both criteria.
        has_simulator: whether the second criterion counts.
    """

    reference: Measured
    candidates: Sequence[Measured]
    margins: Margins
    has_simulator: bool

    @classmethod
    def of(
        cls, reference: Measured, candidates: Iterable[Measured], margins: Margins, has_simulator: bool
    ) -> "Comparison":
        """Put the candidates in order."""
        ordered = sorted(candidates, key=lambda m: (m.cost_ms, m.energy_distance.value))
        return cls(reference, ordered, margins, has_simulator)

    def roll_out(self, roll_out: Callable[[Candidate], RolloutResult], every: bool = False) -> None:
        """Roll out the reference, then candidates that pass the first criterion until one passes the second.

        Args:
            roll_out: gives the episodes of a candidate.
            every: roll all candidates out.
        """
        worth_it = [m for m in self.candidates if every or self.may_replace_reference(m)]
        if not worth_it:
            return
        self.reference.rollout = roll_out(self.reference.candidate)
        for measured in worth_it:
            measured.rollout = roll_out(measured.candidate)
            if not every and self.passes(measured):
                return

    def may_replace_reference(self, measured: Measured) -> bool:
        """Whether a candidate is faster than the reference and passes the first criterion."""
        return measured.cost_ms < self.reference.cost_ms and measured.is_near(self.margins)

    def passes(self, measured: Measured) -> bool:
        """Whether a candidate passes all that counts."""
        not_inferior = not self.has_simulator or measured.is_not_inferior(self.reference, self.margins)
        return self.may_replace_reference(measured) and bool(not_inferior)

    @property
    def chosen(self) -> Measured:
        """The cheapest that passes; the reference if none does."""
        return next(filter(self.passes, self.candidates), self.reference)

    @property
    def n_looks(self) -> int:
        """How many candidates were tried in closed loop up to the choice."""
        tried = [m for m in self.candidates if self.may_replace_reference(m) and m.rollout is not None]
        return tried.index(self.chosen) + 1 if self.chosen in tried else len(tried)

    def verdict(self, measured: Measured) -> str:
        """What is said of one of them."""
        if measured is self.chosen:
            return "chosen" if measured is not self.reference else "reference, chosen"
        if measured is self.reference:
            return "reference"
        if not measured.is_near(self.margins):
            return "distance undecided" if measured.is_undecided(self.margins) else "too far"
        if measured.cost_ms >= self.reference.cost_ms:
            return "no faster than the reference"
        if self.passes(measured):
            return "passes, not the cheapest"
        return "near, not rolled out" if measured.rollout is None else "near, score may be lower"


def _scores(rollout: RolloutResult) -> tuple[float, ...]:
    return tuple(episode.score for episode in rollout.episodes)


@cache  # a bootstrap takes a while, and the same ones are asked for by choice, table and file
def _mean(scores: tuple[float, ...]) -> Estimate:
    return bootstrap_mean_interval(scores)


@cache
def _mean_difference(scores: tuple[float, ...], of_reference: tuple[float, ...]) -> Estimate:
    return paired_bootstrap_interval(scores, of_reference)
