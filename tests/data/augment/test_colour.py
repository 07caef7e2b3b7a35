"""Colour changes against what their names promise; which ones are drawn stands in test_crops."""

import numpy as np
import pytest
import torch
from views import noise, view_of

from facetrain.config.schema import ColourConfig
from facetrain.data.augment.colour import Colour, apply, draw

WEIGHTS = torch.tensor([0.114, 0.587, 0.299])[:, None, None]  # of B, G, R in a grey image


def changed(image: torch.Tensor, colour: Colour) -> torch.Tensor:
    return apply(view_of(image.clone()), colour).image


def test_nothing_is_drawn_where_nothing_is_on() -> None:
    rng = np.random.default_rng(0)
    assert {draw(rng, ColourConfig()) for _ in range(50)} == {None}


def test_grey_makes_channels_equal_and_weighs_them_as_bgr() -> None:
    got = changed(noise(), Colour(grey=True))
    for channel in got:
        torch.testing.assert_close(channel, (noise() * WEIGHTS).sum(0), atol=0.2, rtol=0)
    assert torch.equal(got[0], got[2])


def test_brightness_contrast_and_saturation_do_what_they_say() -> None:
    image = noise()
    torch.testing.assert_close(changed(image, Colour(brightness=1.3)), (image * 1.3).clamp(max=255), atol=1e-2, rtol=0)
    grey = (image * WEIGHTS).sum(0)
    torch.testing.assert_close(changed(image, Colour(contrast=0.5)), 0.5 * image + 0.5 * grey.mean(), atol=0.2, rtol=0)
    torch.testing.assert_close(changed(image, Colour(saturation=0.0)), grey.expand(3, -1, -1), atol=0.2, rtol=0)


def test_blur_smooths_and_keeps_the_mean() -> None:
    got = changed(noise(), Colour(blur=1.5))
    assert got.std() < 0.4 * noise().std()
    assert abs(got.mean() - noise().mean()) < 4


@pytest.mark.parametrize("jitter", [0.4, 1.0])
def test_range_and_faces_stay(jitter: float) -> None:
    rng = np.random.default_rng(3)
    for seed in range(12):
        view = view_of(noise(seed=seed), [[3, 4, 12, 15]])
        numbers = draw(rng, ColourConfig(jitter, 0.3, 0.4))
        assert numbers is not None
        after = apply(view, numbers)
        assert after.image.dtype == torch.float32
        assert bool((after.image >= 0).all() & (after.image <= 255.01).all())
        assert after.boxes is view.boxes
        assert after.landmarks is view.landmarks
