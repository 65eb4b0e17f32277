"""Gaussian diffusion with a cosine schedule and learned-range variance.

The convention of MAR's head (Li et al. 2024, section 4.2) and improved DDPM (Nichol and Dhariwal 2021): 1000
training steps; the network returns a prediction, of the noise unless told otherwise, and an interpolation between
the two extreme log variances; the loss is the prediction's MSE plus the variational term, in bits, whose mean is
detached. Mathematics in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x (n, c), t (n,) int64) -> (n, 2c): the prediction (of noise or velocity) and raw variance."""
StepDenoiser = Callable[[Tensor, int], Tensor]
"""The same in sampling, where all of x stands at one time, `Diffusion.timesteps[step]`: (x (n, c), step) -> (n, 2c)."""

PREDICTIONS = ("noise", "velocity")
"""What a network predicts: noise, or velocity sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0 (Salimans and Ho 2022,
appendix D). Its squared error weighs that of x0 by 1 + SNR; the noise's by SNR alone, which vanishes at high noise.
"""


def time_features(t: Tensor) -> Tensor:
    """Cosines and sines (b, 256) of times t (b,), which run from 0 to about 1000."""
    frequencies = torch.exp(-math.log(10000) * torch.arange(128, device=t.device) / 128)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], -1)


def cosine_betas(steps: int) -> np.ndarray:
    """Nichol and Dhariwal's cosine schedule: betas (steps,) float64, clipped at 0.999."""
    time = np.arange(steps + 1) / steps
    alpha_bar = np.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)


class Diffusion:
    """A (possibly respaced) diffusion process.

    `Diffusion(1000)` is for training; `Diffusion(1000, sampling_steps=100)` keeps the middles of 100 equal intervals,
    whose betas are recomputed from the kept cumulative products, so that their marginals agree. The very last
    training step is not among them: there alpha_bar is 2e-9, and an error of 1 % in the predicted noise becomes one
    of 200 standard deviations in x0.
    """

    def __init__(
        self,
        steps: int = 1000,
        sampling_steps: int | None = None,
        device: str | torch.device = "cpu",
        prediction: str = "noise",
    ) -> None:
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
        self.prediction = prediction
        alpha_bar = np.cumprod(1 - cosine_betas(steps))
        kept = np.arange(steps)
        if sampling_steps is not None:
            if not 1 <= sampling_steps <= steps:
                raise ValueError(f"sampling_steps must lie between 1 and {steps}, got {sampling_steps}")
            kept = ((np.arange(sampling_steps) + 0.5) * steps / sampling_steps).astype(int)
        alpha_bar = alpha_bar[kept]
        previous = np.append(1.0, alpha_bar[:-1])
        beta = 1 - alpha_bar / previous
        posterior = beta * (1 - previous) / (1 - alpha_bar)
        # The posterior variance of the first step is 0; its logarithm is taken from the second step.
        clipped = np.append(posterior[1], posterior[1:]) if len(kept) > 1 else beta

        def table(values: np.ndarray) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        self.steps = len(kept)
        self.timesteps = torch.tensor(kept, device=device)
        self.alpha_bar, self.alpha_bar_previous = table(alpha_bar), table(previous)
        self.log_beta, self.log_posterior = table(np.log(beta)), table(np.log(clipped))
        self.mean_x0 = table(beta * np.sqrt(previous) / (1 - alpha_bar))
        self.mean_xt = table((1 - previous) * np.sqrt(1 - beta) / (1 - alpha_bar))

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise. x0, noise: (n, c); t: (n,)."""
        a = self.alpha_bar[t][:, None]
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    # Below, t (n,) is of each row of x, or an int of all of them: then what is looked up broadcasts.

    def _x0(self, x: Tensor, t: Tensor | int, predicted: Tensor) -> Tensor:
        a = self.alpha_bar[t][..., None]
        if self.prediction == "velocity":
            return a.sqrt() * x - (1 - a).sqrt() * predicted
        return (x - (1 - a).sqrt() * predicted) / a.sqrt()

    def _noise(self, x: Tensor, t: Tensor | int, x0: Tensor) -> Tensor:
        a = self.alpha_bar[t][..., None]
        return (x - a.sqrt() * x0) / (1 - a).sqrt()

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network should predict at x_t: the noise, or the velocity. x0, noise: (n, c); t: (n,)."""
        if self.prediction == "noise":
            return noise
        a = self.alpha_bar[t][:, None]
        return a.sqrt() * noise - (1 - a).sqrt() * x0

    def _mean(self, x: Tensor, t: Tensor | int, x0: Tensor) -> Tensor:
        return self.mean_x0[t][..., None] * x0 + self.mean_xt[t][..., None] * x

    def _log_variance(self, raw: Tensor, t: Tensor | int) -> Tensor:
        fraction = (raw + 1) / 2
        return fraction * self.log_beta[t][..., None] + (1 - fraction) * self.log_posterior[t][..., None]

    def loss(self, denoiser: Denoiser, x0: Tensor, *, t: Tensor, noise: Tensor) -> Tensor:
        """Per-sample loss (n,): mean over channels of MSE(prediction) + KL(posterior || model) in bits."""
        x = self.add_noise(x0, t, noise)
        predicted, raw = denoiser(x, self.timesteps[t]).float().chunk(2, -1)
        mse = (predicted - self.target(x0, t, noise)).square().mean(-1)
        mean, true_mean = self._mean(x, t, self._x0(x, t, predicted.detach())), self._mean(x, t, x0)
        log_p, log_q = self._log_variance(raw, t), self.log_posterior[t][:, None]
        kl = 0.5 * (log_p - log_q + (log_q - log_p).exp() + (true_mean - mean).square() * (-log_p).exp() - 1)
        return mse + kl.mean(-1) / math.log(2)

    @torch.no_grad()
    def sample(
        self, denoiser: StepDenoiser, noise: Tensor, *, sampler: str = "ddpm", temperature: float = 1.0
    ) -> Tensor:
        """Draw samples (n, c) from noise (steps + 1, n, c): the start, then one slice for each step.

        sampler: `ddpm` (ancestral, learned variance, x0 not clipped) or `ddim` (deterministic, eta = 0). temperature:
        factor of the noise that `ddpm` adds.
        """
        if sampler not in ("ddpm", "ddim"):
            raise ValueError(f"sampler must be ddpm or ddim, got {sampler!r}")
        x = noise[0]
        for step in reversed(range(self.steps)):
            predicted, raw = denoiser(x, step).float().chunk(2, -1)
            x0 = self._x0(x, step, predicted)
            if sampler == "ddim":
                a = self.alpha_bar_previous[step]
                x = a.sqrt() * x0 + (1 - a).sqrt() * self._noise(x, step, x0)
            else:
                x = self._mean(x, step, x0)
                if step > 0 and temperature:
                    x = x + temperature * (0.5 * self._log_variance(raw, step)).exp() * noise[self.steps - step]
        return x
