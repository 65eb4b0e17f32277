"""Diffusion: schedule limits, closed-form sampling of a Gaussian, respacing."""

import numpy as np
import pytest
import torch

from methods.layers.diffusion import PREDICTIONS, Diffusion, cosine_betas, time_features


def test_time_features_are_waves_from_one_radian_a_step_to_a_ten_thousandth():
    t = torch.tensor([0, 7, 999])
    features = time_features(t)
    assert features.shape == (3, 256)
    assert torch.equal(features[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    torch.testing.assert_close(features[:, 0], torch.cos(t.float()))
    slowest = 10000 ** (-127 / 128)
    torch.testing.assert_close(features[:, -1], torch.sin(t * slowest))


def test_cosine_schedule_destroys_the_signal():
    alpha_bar = np.cumprod(1 - cosine_betas(1000))
    assert alpha_bar[0] > 0.999 and alpha_bar[-1] < 1e-4
    assert np.all(np.diff(alpha_bar) < 0)


def test_respacing_keeps_the_marginals():
    full, few = Diffusion(1000), Diffusion(1000, 50)
    torch.testing.assert_close(few.alpha_bar, full.alpha_bar[few.timesteps])


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_optimal_denoiser_of_a_gaussian_samples_that_gaussian(sampler):
    mean, std = 1.5, 0.5
    process = Diffusion(1000, 100)
    full = Diffusion(1000)

    def denoiser(x, step):
        a = full.alpha_bar[process.timesteps[step]]
        # E[noise | x] for x0 ~ N(mean, std^2), in closed form
        noise = (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * std**2 + 1 - a)
        return torch.cat([noise, torch.full_like(noise, -1.0)], -1)

    noise = torch.randn((101, 20000, 1), generator=torch.Generator().manual_seed(0))
    x = process.sample(denoiser, noise, sampler=sampler)
    assert abs(x.mean().item() - mean) < 0.02
    assert abs(x.std().item() - std) < 0.02


@pytest.mark.parametrize("steps", [25, 100])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_small_error_of_the_denoiser_stays_small(steps, sampler):
    process, full, g = Diffusion(1000, steps), Diffusion(1000), torch.Generator().manual_seed(0)

    def denoiser(x, step):  # of N(0, 1), with the error of bf16 arithmetic
        noise = (1 - full.alpha_bar[process.timesteps[step]]).sqrt() * x
        noise = noise + 0.01 * torch.randn(noise.shape, generator=g)
        return torch.cat([noise, torch.full_like(noise, -1.0)], -1)

    x = process.sample(denoiser, torch.randn((steps + 1, 5000, 1), generator=g), sampler=sampler)
    assert x.abs().max() < 6 and abs(x.std().item() - 1) < 0.15


def test_loss_of_the_true_noise_is_small_and_of_a_wrong_one_is_not():
    process, g = Diffusion(1000), torch.Generator().manual_seed(1)
    x0, t = torch.randn((512, 4), generator=g), torch.randint(0, 1000, (512,), generator=g)
    noise = torch.randn((512, 4), generator=g)
    right = process.loss(lambda x, _: torch.cat([noise, torch.full_like(noise, -1.0)], -1), x0, t=t, noise=noise)
    wrong = process.loss(lambda x, _: torch.cat([-noise, torch.full_like(noise, -1.0)], -1), x0, t=t, noise=noise)
    assert right.max() < 1e-3 and wrong.mean() > 3


def test_variational_term_trains_the_variance_only():
    process, g = Diffusion(1000), torch.Generator().manual_seed(1)
    x0, noise = torch.randn((8, 2), generator=g), torch.randn((8, 2), generator=g)
    predicted = (noise + 0.5).requires_grad_()
    raw = torch.zeros_like(noise, requires_grad=True)
    t = torch.full((8,), 500)
    process.loss(lambda x, _: torch.cat([predicted, raw], -1), x0, t=t, noise=noise).sum().backward()
    torch.testing.assert_close(predicted.grad, torch.full_like(noise, 2 * 0.5 / 2))  # of the MSE over 2 channels alone
    assert raw.grad.abs().min() > 0


def test_velocity_and_noise_of_the_same_x0_are_one_process():
    """The exact denoiser of a point x0 = m, written as noise and as velocity, draws the same samples."""
    m, full = 0.7, Diffusion(1000)
    drawn = {}
    for prediction in PREDICTIONS:
        process = Diffusion(1000, 50, prediction=prediction)

        def denoiser(x, step, process=process):
            a = full.alpha_bar[process.timesteps[step]].double()
            noise = (x.double() - a.sqrt() * m) / (1 - a).sqrt()
            exact = noise if process.prediction == "noise" else a.sqrt() * noise - (1 - a).sqrt() * m
            return torch.cat([exact, torch.full_like(exact, 0.3)], -1)

        start = torch.randn((51, 64, 1), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        drawn[prediction] = process.sample(denoiser, start)
    torch.testing.assert_close(drawn["noise"], drawn["velocity"], atol=2e-3, rtol=0)


def test_target_of_velocity_gives_back_noise_and_x0():
    process, g = Diffusion(1000, prediction="velocity"), torch.Generator().manual_seed(2)
    x0, noise = torch.randn((256, 3), generator=g), torch.randn((256, 3), generator=g)
    t = torch.randint(0, 1000, (256,), generator=g)
    x, v, a = process.add_noise(x0, t, noise), process.target(x0, t, noise), process.alpha_bar[t][:, None]
    torch.testing.assert_close(a.sqrt() * x - (1 - a).sqrt() * v, x0, atol=1e-5, rtol=0)
    torch.testing.assert_close((1 - a).sqrt() * x + a.sqrt() * v, noise, atol=1e-5, rtol=0)
    right = process.loss(lambda *_: torch.cat([v, torch.full_like(v, -1.0)], -1), x0, t=t, noise=noise)
    wrong = process.loss(lambda *_: torch.cat([-v, torch.full_like(v, -1.0)], -1), x0, t=t, noise=noise)
    assert right.max() < 1e-3 and wrong.mean() > 3


def test_unknown_prediction_is_refused():
    with pytest.raises(ValueError, match="noise, velocity"):
        Diffusion(10, prediction="score")
