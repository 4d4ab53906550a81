"""The page for those who come from k-diffusion and diffusers, where one of them is installed."""

import inspect
import re

import pytest

from tests.migrating import pages

torch = pytest.importorskip("torch")

# The schedulers hand tensors to NumPy in a way that it warns of; k-diffusion imports what warns.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore::UserWarning",
    "ignore::FutureWarning",
)

PAGE = "diffusers.md"


@pytest.fixture
def diffusers():
    return pytest.importorskip("diffusers")


@pytest.fixture
def k_diffusion():
    return pytest.importorskip("k_diffusion")


def test_the_numbers_are_those_of_diffusers(diffusers):
    found = pages.differences(PAGE, without="k_diffusion")
    assert len(found) == 2
    assert all(off < 1e-5 for off in found)


@pytest.mark.parametrize(
    "wrong", [("fj.dpmpp_2m)", "fj.ddim)"), ("* (1 - t) - 1", "* (1 - t)"), ('"v"', '"data"')]
)
def test_another_method_time_or_prediction_is_not_taken_for_it(diffusers, wrong):
    assert pages.first_difference(PAGE, *wrong, without="k_diffusion") > 1e-4


def test_the_numbers_are_those_of_k_diffusion(k_diffusion):
    found = pages.differences(PAGE, without="diffusers")
    assert len(found) == 1
    assert all(off < 1e-5 for off in found)


def test_another_method_is_not_taken_for_that_of_k_diffusion(k_diffusion):
    assert pages.first_difference(PAGE, "fj.dpmpp_2m)", "fj.ddim)", without="diffusers") > 1e-4


def spans(heading):
    return [span for left, _ in pages.rows(PAGE, heading) for span in left]


def test_every_name_of_diffusers_exists(diffusers):
    named = spans("## diffusers")
    schedulers = [getattr(diffusers, span.split("(")[0]) for span in named if "Scheduler" in span]
    arguments = (
        *schedulers,
        *(scheduler.step for scheduler in schedulers if hasattr(scheduler, "step")),
        *("guidance_scale", "guidance_rescale", "strength", "callback_on_step_end"),
    )
    # What their documentation and annotations say that an argument may be.
    values = {word for scheduler in schedulers for word in words_of(scheduler)}
    from diffusers.training_utils import EMAModel

    scope = {scheduler.__name__: scheduler for scheduler in schedulers}
    scope |= {"EMAModel": EMAModel, "AutoencoderKL": diffusers.AutoencoderKL}
    scope |= {"scheduler": Any(schedulers)}
    scope |= dict.fromkeys(("betas", "callback", "generator", "n", "noise"), pages.OPAQUE)
    assert not pages.wrong_names(named, scope, arguments, values)
    assert len(named) > 60


class Any:
    """Has what one of them has."""

    def __init__(self, kinds):
        self.kinds = kinds

    def __getattr__(self, name):
        if name == "timesteps" or any(hasattr(kind, name) for kind in self.kinds):
            return pages.OPAQUE
        raise AttributeError(name)


def words_of(scheduler):
    source = inspect.getsource(inspect.getmodule(scheduler))
    return re.findall(r"""["']([^"'\n]{1,40})["']""", source)


def test_every_name_of_k_diffusion_exists(k_diffusion):
    external, layers, sampling = (
        getattr(k_diffusion, name) for name in ("external", "layers", "sampling")
    )
    scope = {**vars(external), **vars(layers), **vars(sampling)}
    own = ("callback", "extra_args", "inner_model", "model", "n", "noise_sampler", "sigma")
    own += ("sigma_max", "sigma_min", "sigmas", "x")
    scope |= dict.fromkeys(own, pages.OPAQUE)
    arguments = (sampling.sample_euler_ancestral, sampling.sample_heun)
    named = spans("## k-diffusion")
    assert not pages.wrong_names(named, scope, arguments, {"midpoint"})
    assert len(named) > 30
